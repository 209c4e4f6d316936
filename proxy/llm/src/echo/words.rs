//! Echo's tokens: words between white space.

use crate::Peek;

/// The longest answer, in words: each costs a chunk of some 200 bytes if it is streamed.
const MOST_WORDS: usize = 16_384;

/// An answer, cut to the length that was asked for.
pub(super) struct Answer<'a> {
    words: Vec<&'a str>,
    /// Whether words are missing at its end.
    pub(super) cut: bool,
}

impl<'a> Answer<'a> {
    /// As much of the text as the request's `max_tokens` and our own bound allow.
    pub(super) fn new(text: &'a str, peeked: &Peek<'_>) -> Self {
        Self::within(text, most(peeked))
    }

    /// As much of the text as fits into so many words.
    pub(super) fn within(text: &'a str, most: usize) -> Self {
        let mut rest = text.split_whitespace();
        let words: Vec<&str> = rest.by_ref().take(most).collect();
        Self {
            words,
            cut: rest.next().is_some(),
        }
    }

    /// The pieces of a stream: one per word, each but the first with a space before it.
    pub(super) fn pieces(&self) -> impl Iterator<Item = String> {
        self.words
            .iter()
            .enumerate()
            .map(|(index, word)| if index == 0 { (*word).to_owned() } else { format!(" {word}") })
    }

    /// All pieces together.
    pub(super) fn text(&self) -> String {
        self.words.join(" ")
    }

    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    pub(super) fn tokens(&self) -> u64 {
        self.words.len() as u64
    }

    /// `finish_reason` of chat and text completions.
    pub(super) fn finish_reason(&self) -> &'static str {
        if self.cut { "length" } else { "stop" }
    }
}

/// The most words that a request may be answered with.
pub(super) fn most(peeked: &Peek<'_>) -> usize {
    peeked
        .max_tokens
        .and_then(|most| usize::try_from(most).ok())
        .map_or(MOST_WORDS, |most| most.min(MOST_WORDS))
}

/// How many tokens a text has.
pub(super) fn count(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}
