//! The limit that a request ran into, as its refusal tells it: whose, how much of it is used, when it resets.
//! It refuses to know status codes.

use store::{LimitUnit, Window};

/// USD micro-cents of one USD.
const USD: u64 = 100_000_000;

/// Who draws on the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Token(Box<str>),
    Project(Box<str>),
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(name) => write!(f, "Token {name}"),
            Self::Project(name) => write!(f, "Project {name}"),
        }
    }
}

/// A limit that a request did not fit into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitHit {
    pub(crate) who: Who,
    pub(crate) unit: LimitUnit,
    pub(crate) window: Window,
    pub(crate) max_units: u64,
    /// By all processes, as far as this one knows.
    pub(crate) used: u64,
    /// What the request may need.
    pub(crate) units: u64,
    /// `None`: never.
    pub(crate) resets_in_s: Option<u32>,
}

impl LimitHit {
    /// OpenAI's word for it: clients tell money from rates by it.
    pub(crate) fn code(&self) -> &'static str {
        match self.unit {
            LimitUnit::Cost => "insufficient_quota",
            LimitUnit::Requests | LimitUnit::InFlight | LimitUnit::InputTokens | LimitUnit::OutputTokens | LimitUnit::TotalTokens => {
                "rate_limit_exceeded"
            }
        }
    }

    /// Nothing, or too little, is left.
    pub(crate) fn reached(&self) -> String {
        let Self { who, .. } = self;
        let used = self.used_of();
        let need = if self.needs_estimate() {
            format!(" and this request may need {}", self.amount(self.units))
        } else {
            String::new()
        };
        match self.resets_in_s {
            None if self.window == Window::Lifetime => format!("{who} {used}{need}, and the limit is for its lifetime: waiting does not help."),
            None => format!("{who} {used}{need}."),
            Some(seconds) => format!("{who} {used}{need}: the limit resets in {seconds} s."),
        }
    }

    /// What is left is under way elsewhere.
    pub(crate) fn busy(&self) -> String {
        let Self { who, max_units, .. } = self;
        match self.unit {
            LimitUnit::InFlight => format!("{who} has {max_units} requests in flight, which is its limit: try again when one has ended."),
            _ => format!("{who} {} and the rest is in use at this moment: try again.", self.used_of()),
        }
    }

    /// Not even the whole limit would do.
    pub(crate) fn too_large(&self) -> String {
        let Self { who, .. } = self;
        format!(
            "This request may need {}, and {who} may use {}{}: ask for less, with a shorter prompt or max_tokens.",
            self.amount(self.units),
            self.amount(self.max_units),
            self.per()
        )
    }

    fn needs_estimate(&self) -> bool {
        !matches!(self.unit, LimitUnit::Requests | LimitUnit::InFlight)
    }

    fn used_of(&self) -> String {
        match self.unit {
            LimitUnit::Cost => format!("has spent {} of its {}{}", money(self.used), money(self.max_units), self.per()),
            _ => format!("has used {} of its {}{}", self.used, self.amount(self.max_units), self.per()),
        }
    }

    fn amount(&self, units: u64) -> String {
        match self.unit {
            LimitUnit::Requests => format!("{units} requests"),
            LimitUnit::InFlight => format!("{units} requests in flight"),
            LimitUnit::InputTokens => format!("{units} input tokens"),
            LimitUnit::OutputTokens => format!("{units} output tokens"),
            LimitUnit::TotalTokens => format!("{units} tokens"),
            LimitUnit::Cost => money(units),
        }
    }

    fn per(&self) -> &'static str {
        match self.window {
            Window::Minute => " per minute",
            Window::Hour => " per hour",
            Window::Day => " per day",
            Window::Week => " per week",
            Window::Month => " per month",
            Window::Lifetime => "",
        }
    }
}

/// Micro-cents as people read them: `$1.25`, `$0.000125`.
pub(crate) fn money(micro_cents: u64) -> String {
    let (dollars, rest) = (micro_cents / USD, micro_cents % USD);
    let decimals = format!("{rest:08}");
    let digits = decimals.trim_end_matches('0');
    let digits = if digits.len() < 2 { &decimals[..2] } else { digits };
    format!("${dollars}.{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(unit: LimitUnit, window: Window) -> LimitHit {
        LimitHit {
            who: Who::Token("team/app".into()),
            unit,
            window,
            max_units: 100,
            used: 97,
            units: 5,
            resets_in_s: (window != Window::Lifetime).then_some(42),
        }
    }

    #[test]
    fn a_refusal_names_the_limit_what_is_used_and_when_it_resets() {
        assert_eq!(
            hit(LimitUnit::Requests, Window::Minute).reached(),
            "Token team/app has used 97 of its 100 requests per minute: the limit resets in 42 s."
        );
        assert_eq!(
            hit(LimitUnit::Requests, Window::Lifetime).reached(),
            "Token team/app has used 97 of its 100 requests, and the limit is for its lifetime: waiting does not help."
        );
        assert_eq!(
            hit(LimitUnit::TotalTokens, Window::Day).reached(),
            "Token team/app has used 97 of its 100 tokens per day and this request may need 5 tokens: the limit resets in 42 s."
        );
        assert_eq!(
            hit(LimitUnit::Cost, Window::Month).reached(),
            "Token team/app has spent $0.00000097 of its $0.000001 per month and this request may need $0.00000005: the limit resets in 42 s."
        );
        assert_eq!(
            hit(LimitUnit::InFlight, Window::Lifetime).busy(),
            "Token team/app has 100 requests in flight, which is its limit: try again when one has ended."
        );
    }

    #[test]
    fn money_is_written_with_at_least_two_decimals() {
        assert_eq!(
            [0, USD, USD / 4 * 5, 12_500, USD / 10].map(money),
            ["$0.00", "$1.00", "$1.25", "$0.000125", "$0.10"]
        );
    }
}
