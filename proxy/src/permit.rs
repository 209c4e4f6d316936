//! A request's shares of all limits that it is under: taken together or not at all, and settled on every way out.
//! It refuses to know where the units come from.

use std::sync::Arc;

use llm::Price;
use store::LimitUnit;

use crate::block::Block;
use crate::meter::Meter;
use crate::outcome::Tokens;

/// How many LLM tokens an answer is taken to have at most, if the request does not say; of a small limit no more than an eighth of it.
const ANSWER_TOKENS: u64 = 1_024;
const SHARE_OF_SMALL_LIMIT: u64 = 8;

/// What a request may use, as far as it can be told before it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Whether its LLM tokens are counted at all.
    pub(crate) metered: bool,
    /// By the size of its body.
    pub(crate) input: u64,
    /// At most, if the request says; 0 where an answer has no tokens.
    pub(crate) output: Option<u64>,
    /// Of its model.
    pub(crate) price: Option<Price>,
}

impl Demand {
    /// How many units of a limit to take; the rest comes back when the answer has ended.
    pub(crate) fn units(&self, meter: &Meter) -> u64 {
        let small = meter.max_units() / SHARE_OF_SMALL_LIMIT;
        let unsaid = ANSWER_TOKENS.min(small);
        // A request whose size cannot be told takes one: it is refused when nothing is left.
        let at_least_one = |units: u64| if self.metered { units.max(1) } else { 0 };
        match meter.unit {
            LimitUnit::Requests | LimitUnit::InFlight => 1,
            LimitUnit::InputTokens => at_least_one(self.input),
            LimitUnit::OutputTokens if self.metered => self.output.unwrap_or(unsaid),
            LimitUnit::OutputTokens => 0,
            LimitUnit::TotalTokens => at_least_one(self.input.saturating_add(self.output.unwrap_or(unsaid))),
            LimitUnit::Cost => {
                let Some(price) = self.price.filter(|price| *price != Price::FREE) else {
                    return 0;
                };
                let answer = match self.output {
                    Some(output) => price.at_most(0, output),
                    None => price.at_most(0, ANSWER_TOKENS).min(small),
                };
                at_least_one(price.at_most(self.input, 0).saturating_add(answer))
            }
        }
    }
}

/// What a request has taken of one limit.
#[derive(Debug)]
pub(crate) struct Share {
    block: Arc<Block>,
    unit: LimitUnit,
    taken: u64,
}

impl Share {
    /// The caller has taken the units.
    pub(crate) fn of(block: Arc<Block>, unit: LimitUnit, taken: u64) -> Self {
        Self { block, unit, taken }
    }

    pub(crate) fn block(&self) -> &Arc<Block> {
        &self.block
    }

    fn settle(&mut self, used: u64) {
        self.block.settle(std::mem::take(&mut self.taken), used);
    }

    fn give_back(&mut self) {
        let units = std::mem::take(&mut self.taken);
        if units > 0 {
            self.block.put_back(units);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// All shares of one request. Dropped before its request was dispatched they go back; dropped afterwards they count as used, because nobody can
/// know whether the first byte left.
#[derive(Debug, Default)]
pub(crate) struct Permit {
    /// Most requests are under one limit, and need no list.
    first: Option<Share>,
    others: Vec<Share>,
    dispatched: bool,
}

impl Permit {
    pub(crate) fn add(&mut self, share: Share) {
        if self.first.is_none() {
            self.first = Some(share);
        } else {
            self.others.push(share);
        }
    }

    /// The request is being handed to the connection: from now on a drop counts as used.
    pub(crate) fn dispatch(&mut self) {
        self.dispatched = true;
    }

    /// The connection gave the request back untouched: not a byte was written.
    pub(crate) fn not_sent(&mut self) {
        self.dispatched = false;
    }

    /// The head went upstream: requests are spent. What is known only at the end stays taken until then.
    pub(crate) fn sent(&mut self) {
        self.dispatched = true;
        for share in self.shares() {
            if share.unit == LimitUnit::Requests && share.taken > 0 {
                share.settle(1);
            }
        }
    }

    /// The request has ended, and this is what it used.
    pub(crate) fn settle(mut self, tokens: Tokens, cost: u64) {
        if !self.dispatched {
            return;
        }
        for share in self.shares() {
            match share.unit {
                // Spent when the head went, or below; and what is in flight no more comes back.
                LimitUnit::Requests | LimitUnit::InFlight => {}
                LimitUnit::InputTokens => share.settle(tokens.input),
                LimitUnit::OutputTokens => share.settle(tokens.output),
                LimitUnit::TotalTokens => share.settle(tokens.input.saturating_add(tokens.output)),
                LimitUnit::Cost => share.settle(cost),
            }
        }
    }

    fn shares(&mut self) -> impl Iterator<Item = &mut Share> {
        self.first.iter_mut().chain(&mut self.others)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.dispatched {
            return;
        }
        for share in self.shares() {
            if share.taken > 0 && share.unit != LimitUnit::InFlight {
                share.settle(share.taken);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use store::{DbTime, ProjectId, QuotaId, TokenId};

    use super::*;
    use crate::block::{Belonging, Standing};

    fn block(units: u64) -> Arc<Block> {
        let belongs = Belonging {
            token: Some(TokenId::new()),
            project: ProjectId::new(),
            ends_at: DbTime(i64::MAX),
            lifetime_requests: true,
        };
        let block = Arc::new(Block::new(QuotaId(1), belongs, 10_000));
        let standing = Standing {
            max_units: 10_000,
            ..Standing::default()
        };
        block.book(units, standing);
        block
    }

    fn permit(shares: &[(&Arc<Block>, LimitUnit, u64)]) -> Permit {
        let mut permit = Permit::default();
        for (block, unit, units) in shares {
            assert!(block.take(*units));
            permit.add(Share::of(Arc::clone(block), *unit, *units));
        }
        permit
    }

    fn figures(block: &Block) -> (u64, u64, u64) {
        (block.available(), block.spent(), block.overrun())
    }

    #[test]
    fn a_permit_whose_request_was_never_sent_goes_back_whole() {
        let (requests, tokens, slots) = (block(1), block(100), block(1));
        let shares = [
            (&requests, LimitUnit::Requests, 1),
            (&tokens, LimitUnit::TotalTokens, 60),
            (&slots, LimitUnit::InFlight, 1),
        ];
        drop(permit(&shares));
        assert_eq!([&requests, &tokens, &slots].map(|b| figures(b)), [(1, 0, 0), (100, 0, 0), (1, 0, 0)]);
        let mut untouched = permit(&shares);
        untouched.dispatch();
        untouched.not_sent();
        untouched.settle(Tokens::default(), 0);
        assert_eq!([&requests, &tokens, &slots].map(|b| figures(b)), [(1, 0, 0), (100, 0, 0), (1, 0, 0)]);
    }

    #[test]
    fn a_permit_dropped_after_dispatch_counts_as_used_but_its_slot_comes_back() {
        let (requests, tokens, slots) = (block(1), block(100), block(1));
        let mut permit = permit(&[
            (&requests, LimitUnit::Requests, 1),
            (&tokens, LimitUnit::TotalTokens, 60),
            (&slots, LimitUnit::InFlight, 1),
        ]);
        permit.dispatch();
        drop(permit);
        assert_eq!([&requests, &tokens, &slots].map(|b| figures(b)), [(0, 1, 0), (40, 60, 0), (1, 0, 0)]);
    }

    #[test]
    fn each_limit_is_settled_to_what_it_counts() {
        let blocks = [block(1), block(100), block(100), block(100), block(100)];
        let mut permit = permit(&[
            (&blocks[0], LimitUnit::Requests, 1),
            (&blocks[1], LimitUnit::InputTokens, 10),
            (&blocks[2], LimitUnit::OutputTokens, 20),
            (&blocks[3], LimitUnit::TotalTokens, 30),
            (&blocks[4], LimitUnit::Cost, 90),
        ]);
        permit.dispatch();
        permit.sent();
        assert_eq!(blocks[0].spent(), 1, "while the answer still runs");
        let tokens = Tokens {
            input: 7,
            output: 110,
            ..Tokens::default()
        };
        permit.settle(tokens, 5);
        assert_eq!(
            blocks.each_ref().map(|b| figures(b)),
            [(0, 1, 0), (93, 7, 0), (0, 100, 10), (0, 100, 17), (95, 5, 0)]
        );
    }

    #[test]
    fn a_dispatched_request_that_used_no_tokens_counts_as_a_request() {
        let (requests, tokens) = (block(1), block(100));
        let mut permit = permit(&[(&requests, LimitUnit::Requests, 1), (&tokens, LimitUnit::InputTokens, 60)]);
        permit.dispatch();
        permit.settle(Tokens::default(), 0);
        assert_eq!([&requests, &tokens].map(|b| figures(b)), [(0, 1, 0), (100, 0, 0)]);
    }
}
