//! The estimate of what a provider did not count for us.

/// Prompt tokens by the size of the request's body in bytes: ⌈bytes / 4⌉, the rule of thumb of four bytes of English per token (contracts.md §8).
#[must_use]
pub fn estimate_prompt_tokens(bytes: usize) -> u64 {
    bytes.div_ceil(4) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bytes_are_one_token_and_a_rest_is_rounded_up() {
        assert_eq!([0, 1, 4, 5, 400].map(estimate_prompt_tokens), [0, 1, 1, 2, 100]);
    }
}
