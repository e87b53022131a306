//! Names of cache inputs and outputs.

/// The layer in `name` if it fits `pattern`, in which `%d` stands for it.
pub(super) fn layer_of(pattern: &str, name: &str) -> Option<usize> {
    let (before, after) = pattern.split_once("%d")?;
    let digits = name.strip_prefix(before)?.strip_suffix(after)?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// The name of a layer's input or output.
pub fn layer_name(pattern: &str, layer: usize) -> String {
    pattern.replacen("%d", &layer.to_string(), 1)
}

/// The pattern and part (`key` or `value`) of a name such as `past_key_values.3.key` or `past_3_value`.
pub(super) fn pattern_of(name: &str, prefixes: &[&str]) -> Option<(String, &'static str)> {
    for prefix in prefixes {
        let Some(rest) = name.strip_prefix(prefix) else { continue };
        let Some(separator) = rest.chars().next().filter(|separator| matches!(separator, '.' | '_')) else { continue };
        for part in ["key", "value"] {
            let middle = rest.get(1..).and_then(|rest| rest.strip_suffix(part)).and_then(|rest| rest.strip_suffix(separator));
            if middle.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())) {
                return Some((format!("{prefix}{separator}%d{separator}{part}"), part));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_names_are_taken_apart() {
        let past = ["past_key_values", "past"];
        assert_eq!(pattern_of("past_key_values.12.key", &past), Some(("past_key_values.%d.key".to_owned(), "key")));
        assert_eq!(pattern_of("past_3_value", &past), Some(("past_%d_value".to_owned(), "value")));
        for name in ["past_key_values.key", "past_key_values..key", "past_key_values.x.key", "past", "past_key_values.1.keys"] {
            assert_eq!(pattern_of(name, &past), None, "{name}");
        }
        assert_eq!(layer_of("past_key_values.%d.key", "past_key_values.12.key"), Some(12));
        for name in ["past_key_values..key", "past_key_values.-1.key", "past_key_values.1.value", "key"] {
            assert_eq!(layer_of("past_key_values.%d.key", name), None, "{name}");
        }
        assert_eq!(layer_name("past_%d_value", 7), "past_7_value");
    }
}
