//! The header `Retry-After`: seconds, or a date of HTTP.

use std::time::Duration;

/// How long the header asks to wait, a date being counted from `now` (seconds since 1970). `None` where it is neither form.
pub(super) fn retry_after(value: &str, now: u64) -> Option<Duration> {
    let value = value.trim();
    // Some servers send fractions of seconds.
    if let Some(seconds) = value.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0) {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    Some(Duration::from_secs(seconds_of_date(value)?.saturating_sub(now)))
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that servers may send.
pub(super) fn seconds_of_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(", ")?;
    let mut parts = rest.split(' ');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let (time, zone) = (parts.next()?, parts.next()?);
    if parts.next().is_some() || !["GMT", "UTC"].contains(&zone) {
        return None;
    }
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let (day, year) = (number(day)?, number(year)?);
    let mut clock = time.split(':').map(number);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let plain = (1..=31).contains(&day) && (1970..=9999).contains(&year) && hour < 24 && minute < 60 && second <= 60;
    if clock.next().is_some() || !plain {
        return None;
    }
    // Days since 1970 by Hinnant's `days_from_civil`: years begin in March.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    (days * 86_400 + hour * 3_600 + minute * 60 + second).checked_sub(719_468 * 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        assert_eq!(seconds_of_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds_of_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(seconds_of_date("Tue, 29 Feb 2000 00:00:00 GMT"), Some(951_782_400));
        assert_eq!(seconds_of_date("Thu, 31 Dec 2099 23:59:59 GMT"), Some(4_102_444_799));
        for wrong in ["", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 6 Foo 1994 08:49:37 GMT"] {
            assert_eq!(seconds_of_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn both_forms_of_the_header() {
        assert_eq!(retry_after(" 3", 0), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("0.25", 0), Some(Duration::from_millis(250)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_770), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_790), Some(Duration::ZERO));
        for wrong in ["soon", "-1", "nan", "1e400", ""] {
            assert_eq!(retry_after(wrong, 0), None, "{wrong}");
        }
    }
}
