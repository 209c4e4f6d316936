//! When a revision is renewed and how long the one before it lives on. Figures: contracts.md §2; two thirds as cert-manager and Vault's operator do.
//! It refuses to know why a revision is replaced. Jitter comes from the revision's own digest, so it is random between tokens and fixed for each.

use store::{DbTime, RevisionView, TokenDigest};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// How long a replaced revision lives on, in ms: a tenth of the lifetime, at most an hour; at least 2 minutes where the lifetime is
/// 20 minutes or more, because a mounted Secret takes about that long to reach its pods.
pub(super) fn overlap_ms(lifetime_ms: i64) -> i64 {
    let tenth = (lifetime_ms / 10).min(HOUR_MS);
    if lifetime_ms >= 20 * MINUTE_MS {
        tenth.max(2 * MINUTE_MS)
    } else {
        tenth
    }
}

/// When a revision is due for renewal: at two thirds of its life, and up to a tenth of it later.
pub(super) fn renewal_due(revision: &RevisionView) -> DbTime {
    let life = revision.ends_at.ms_since(revision.issued_at).max(0);
    revision
        .issued_at
        .plus_ms(life / 3 * 2 + life % 3 * 2 / 3 + jitter_ms(life, &revision.digest))
}

/// Up to a tenth of a life, spread evenly by the first two bytes of a digest.
fn jitter_ms(life_ms: i64, digest: &TokenDigest) -> i64 {
    let share = i64::from(u16::from_be_bytes([digest.0[0], digest.0[1]]));
    life_ms / 10 * share / 65_536
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::RevisionState;

    fn revision(life_ms: i64, first_byte: u8) -> RevisionView {
        let mut digest = TokenDigest([0; 32]);
        digest.0[0] = first_byte;
        let (issued_at, ends_at) = (DbTime(1_000), DbTime(1_000 + life_ms));
        RevisionView {
            revision: 1,
            digest,
            prefix: String::new(),
            state: RevisionState::Active,
            write_begun: true,
            issued_at,
            ends_at,
            rotation_trigger: None,
        }
    }

    #[test]
    fn the_overlap_is_a_tenth_of_the_lifetime_between_two_minutes_and_an_hour() {
        for (lifetime, overlap) in [
            (MINUTE_MS, 6_000),
            (19 * MINUTE_MS, 114_000),
            (20 * MINUTE_MS, 2 * MINUTE_MS),
            (HOUR_MS, 6 * MINUTE_MS),
            (24 * HOUR_MS, HOUR_MS),
            (8_760 * HOUR_MS, HOUR_MS),
        ] {
            assert_eq!(overlap_ms(lifetime), overlap, "of {lifetime}");
        }
    }

    #[test]
    fn renewal_falls_due_between_two_thirds_and_three_quarters_and_a_bit_of_a_life() {
        let life = 30 * MINUTE_MS;
        assert_eq!(renewal_due(&revision(life, 0)), DbTime(1_000 + 20 * MINUTE_MS));
        let latest = renewal_due(&revision(life, 255));
        assert!(
            latest > DbTime(1_000 + 22 * MINUTE_MS) && latest < DbTime(1_000 + 23 * MINUTE_MS),
            "{latest:?}"
        );
        assert_eq!(renewal_due(&revision(0, 7)), DbTime(1_000));
    }

    #[test]
    fn the_overlap_always_fits_into_what_is_left_at_renewal() {
        for lifetime in [MINUTE_MS, 20 * MINUTE_MS, HOUR_MS, 8_760 * HOUR_MS] {
            let revision = revision(lifetime, 255);
            assert!(revision.ends_at.ms_since(renewal_due(&revision)) >= overlap_ms(lifetime), "of {lifetime}");
        }
    }
}
