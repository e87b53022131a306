//! MMMU's multiple-choice questions (MMMU-Benchmark/MMMU `bb0b95a`, `parse_multi_choice_response` of
//! `mmmu/utils/eval_utils.py`).

use super::super::python_text::words;
use super::super::set_level::Answered;
use super::super::types::SampleScore;
use super::{index_of, letter};
use crate::benchmark::Reference;

/// The option that a response names: `(A)`, else ` A `, else (in more than five words) an option's text; of several the one that
/// stands last. Where the original draws a random option, `None`.
pub(super) fn multiple_choice(options: &[String], text: &str) -> Option<char> {
    let mut stripped = text;
    for mark in [',', '.', '!', '?', ';', ':', '\''] {
        stripped = stripped.trim_matches(mark);
    }
    let response = format!(" {stripped} ");
    let letters: Vec<char> = (0..options.len()).filter_map(letter).collect();
    let last = |places: Vec<(char, Option<usize>)>| {
        // Of equal places the first option is taken, as `argmax` does.
        let mut best: Option<(char, usize)> = None;
        for (letter, place) in places {
            if let Some(place) = place
                && best.is_none_or(|(_, before)| place > before)
            {
                best = Some((letter, place));
            }
        }
        best.map(|(letter, _)| letter)
    };
    let marked = |before: &str, after: &str| {
        last(letters.iter().map(|letter| (*letter, response.rfind(&format!("{before}{letter}{after}")))).collect())
    };
    marked("(", ")").or_else(|| marked(" ", " ")).or_else(|| {
        if words(&response).count() <= 5 {
            return None;
        }
        let lower = response.to_lowercase();
        last(letters.iter().zip(options).map(|(letter, option)| (*letter, lower.rfind(&option.to_lowercase()))).collect())
    })
}

/// What the original does with unparsed responses: it draws an option with Python's generator, seeded with 42 when the program
/// starts, in the order of the responses. For the variant that mimics it.
pub(in crate::score) fn assign_random_choices(answers: &mut [Answered<'_>]) {
    let mut random = PythonRandom::seeded(42);
    for answered in answers {
        if let Reference::Choice { options, answer } = answered.reference
            && answered.score.parsed.is_none()
            && let Some(drawn) = u32::try_from(options.len()).ok().filter(|count| *count > 0).map(|count| random.below(count))
        {
            let drawn = letter(drawn as usize);
            let right = drawn.and_then(index_of) == Some(*answer);
            let value = f64::from(u8::from(right));
            for contribution in answered.score.contributions.values_mut() {
                contribution.numerator = value;
            }
            // It stays unparsed: the option is no answer of the model's.
            let SampleScore { value: score, detail, .. } = &mut answered.score;
            *score = Some(value);
            *detail = serde_json::json!({ "unparsed": true, "drawn_at_random": drawn });
        }
    }
}

/// The Mersenne Twister as Python's `random` module uses it.
struct PythonRandom {
    state: [u32; SIZE],
    next: usize,
}

const SIZE: usize = 624;
const SHIFT: usize = 397;

impl PythonRandom {
    /// `random.seed(number)` of a number below 2³²: `init_by_array` with one word.
    fn seeded(number: u32) -> Self {
        let mut state = [0_u32; SIZE];
        let mut previous = 19_650_218_u32;
        for (index, word) in (0_u32..).zip(state.iter_mut()) {
            if index > 0 {
                previous = 1_812_433_253_u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(index);
            }
            *word = previous;
        }
        let mut twister = Self { state, next: SIZE };
        let mut at = 1;
        for _ in 0..SIZE {
            let mixed = twister.mixed(at, 1_664_525).wrapping_add(number);
            at = twister.put(at, mixed);
        }
        for _ in 1..SIZE {
            let mixed = twister.mixed(at, 1_566_083_941).wrapping_sub(at as u32);
            at = twister.put(at, mixed);
        }
        twister.set(0, 0x8000_0000);
        twister
    }

    fn word(&self, at: usize) -> u32 {
        self.state.get(at % SIZE).copied().unwrap_or_default()
    }

    fn set(&mut self, at: usize, value: u32) {
        if let Some(word) = self.state.get_mut(at % SIZE) {
            *word = value;
        }
    }

    fn mixed(&self, at: usize, factor: u32) -> u32 {
        let before = self.word(at - 1);
        self.word(at) ^ (before ^ (before >> 30)).wrapping_mul(factor)
    }

    /// Puts a word and steps on; behind the end word 0 becomes the last one.
    fn put(&mut self, at: usize, value: u32) -> usize {
        self.set(at, value);
        if at + 1 < SIZE {
            return at + 1;
        }
        self.set(0, self.word(SIZE - 1));
        1
    }

    fn bits(&mut self) -> u32 {
        if self.next >= SIZE {
            for at in 0..SIZE {
                let joined = (self.word(at) & 0x8000_0000) | (self.word(at + 1) & 0x7fff_ffff);
                let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                self.set(at, self.word(at + SHIFT) ^ (joined >> 1) ^ twist);
            }
            self.next = 0;
        }
        let mut word = self.word(self.next);
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// `random.choice` of `count` options: as many high bits as `count` has, again until they are below it.
    fn below(&mut self, count: u32) -> u32 {
        let bits = u32::BITS - count.leading_zeros();
        loop {
            let drawn = self.bits() >> (u32::BITS - bits);
            if drawn < count {
                return drawn;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_python() {
        // [random.choice(range(n)) for n in [4] * 12 + [2, 3, 5, 7, 9]] after random.seed(42), by Python 3.
        let mut random = PythonRandom::seeded(42);
        let counts = [4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 2, 3, 5, 7, 9];
        let drawn: Vec<u32> = counts.iter().map(|count| random.below(*count)).collect();
        assert_eq!(drawn, DRAWN);
    }

    const DRAWN: [u32; 17] = [0, 0, 2, 1, 1, 1, 0, 0, 3, 0, 0, 0, 0, 0, 4, 4, 0];

    #[test]
    fn the_generator_goes_on_as_python_s_does() {
        // sum(random.choice(range(4)) for _ in range(2000)) after random.seed(42), by Python 3: three times its whole state.
        let mut random = PythonRandom::seeded(42);
        assert_eq!((0..2000).map(|_| random.below(4)).sum::<u32>(), 3066);
    }
}
