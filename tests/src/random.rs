//! Random numbers of a test: seeded, and the seed is printed, so that a failing run can be repeated (LLM_PROXY_SEED).

use std::hash::{BuildHasher, RandomState};

/// SplitMix64: small, and the same sequence for the same seed on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator seeded by LLM_PROXY_SEED or else freshly; prints the seed to standard error.
    #[must_use]
    pub fn announced(purpose: &str) -> Self {
        let seed = std::env::var("LLM_PROXY_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| RandomState::new().hash_one(std::process::id()));
        eprintln!("{purpose}: LLM_PROXY_SEED={seed}");
        Self(seed)
    }

    /// A generator that nobody needs to repeat, for names.
    #[must_use]
    pub fn fresh() -> Self {
        Self(RandomState::new().hash_one(std::process::id()))
    }

    /// A generator with this seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// `len` characters of the base62 alphabet.
    pub fn base62(&mut self, len: usize) -> String {
        (0..len).map(|_| char::from(crate::token::ALPHABET[self.below(62) as usize])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sequence() {
        let (mut one, mut two) = (Random::seeded(7), Random::seeded(7));
        assert_eq!(one.base62(40), two.base62(40));
        assert_ne!(one.next_u64(), Random::seeded(8).next_u64());
    }
}
