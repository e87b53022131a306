//! The project's own random generator, so that a seed means the same numbers for ever, whatever a dependency does.
//!
//! xoshiro256++ 1.0 seeded through splitmix64, as its authors advise (Blackman and Vigna, *Scrambled linear pseudorandom
//! number generators*, 2021; reference code in the public domain at prng.di.unimi.it). For resampling, not for secrets.

/// xoshiro256++.
#[derive(Clone, Debug)]
pub struct Generator {
    state: [u64; 4],
}

impl Generator {
    /// A generator whose whole sequence is fixed by `seed`.
    pub fn new(seed: u64) -> Self {
        let mut counter = seed;
        let mut split_mix = || {
            counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = counter;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Self { state: [split_mix(), split_mix(), split_mix(), split_mix()] }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let [s0, s1, s2, s3] = self.state;
        let result = s0.wrapping_add(s3).rotate_left(23).wrapping_add(s0);
        let shifted = s1 << 17;
        let (s2, s3) = (s2 ^ s0, s3 ^ s1);
        self.state = [s0 ^ s3, s1 ^ s2, s2 ^ shifted, s3.rotate_left(45)];
        result
    }

    /// A uniform number in 0..1 with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A uniform index below `bound`, without bias (Lemire 2019); 0 if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        if bound == 0 {
            return 0;
        }
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            // The threshold is below the bound, so that the division is seldom needed.
            if product as u64 >= bound || product as u64 >= bound.wrapping_neg() % bound {
                return (product >> 64) as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        // First outputs of the authors' C code from the state 1, 2, 3, 4.
        let mut generator = Generator { state: [1, 2, 3, 4] };
        for expected in [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386, 9_228_616_714_210_784_205] {
            assert_eq!(generator.next_u64(), expected);
        }
        // splitmix64 from the seed 1234567.
        assert_eq!(Generator::new(1_234_567).state[..2], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn indices_are_within_bounds_and_even() {
        let mut generator = Generator::new(7);
        let mut counts = [0_u32; 10];
        for _ in 0..100_000 {
            counts[generator.below(10)] += 1;
        }
        // Binomial standard deviation is 95; five of them.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 475), "{counts:?}");
        assert_eq!(generator.below(0), 0);
    }
}
