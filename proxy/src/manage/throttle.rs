//! Failed credentials per source address: a token bucket each, in a table of bounded size. Right credentials never come here.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Failures that a source may make at once.
const BURST: f64 = 20.0;
/// Failures per second that come free again.
const REFILL: f64 = 1.0;
/// Sources that are remembered.
const MAX_SOURCES: usize = 10_000;

/// The buckets of all sources that have failed lately.
#[derive(Default)]
pub(super) struct Throttle(Mutex<HashMap<IpAddr, Bucket>>);

struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left, self.at) = ((self.left + passed * REFILL).min(BURST), now);
    }
}

impl Throttle {
    /// Books a failure of this source.
    ///
    /// # Errors
    /// After how many seconds it may fail again.
    pub(super) fn failed(&self, source: IpAddr, now: Instant) -> Result<(), u64> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let source = network(source);
        if buckets.len() >= MAX_SOURCES && !buckets.contains_key(&source) {
            make_room(&mut buckets, now);
        }
        let bucket = buckets.entry(source).or_insert(Bucket { left: BURST, at: now });
        bucket.refill(now);
        if bucket.left < 1.0 {
            return Err(((1.0 - bucket.left) / REFILL).ceil().max(1.0) as u64);
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

/// Forgets whoever has not failed for long; if all have, whoever failed first.
fn make_room(buckets: &mut HashMap<IpAddr, Bucket>, now: Instant) {
    buckets.retain(|_, bucket| {
        bucket.refill(now);
        bucket.left < BURST
    });
    if buckets.len() >= MAX_SOURCES
        && let Some(most) = buckets.iter().max_by(|a, b| a.1.left.total_cmp(&b.1.left)).map(|(source, _)| *source)
    {
        buckets.remove(&most);
    }
}

/// One subscriber of IPv6 has a /64 at least: addresses within it are one source.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn source(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_that_fails_too_often_waits_and_no_other_does() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..20 {
            assert_eq!(throttle.failed(source("192.0.2.1"), now), Ok(()));
        }
        assert_eq!(throttle.failed(source("192.0.2.1"), now), Err(1));
        assert_eq!(throttle.failed(source("192.0.2.2"), now), Ok(()));
        assert_eq!(throttle.failed(source("192.0.2.1"), now + Duration::from_millis(1_500)), Ok(()));
        assert_eq!(throttle.failed(source("192.0.2.1"), now + Duration::from_millis(1_500)), Err(1));
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_source() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..20 {
            assert_eq!(throttle.failed(source(&format!("2001:db8::{n:x}")), now), Ok(()));
        }
        assert!(throttle.failed(source("2001:db8::ffff"), now).is_err());
        assert_eq!(throttle.failed(source("2001:db8:0:1::1"), now), Ok(()));
        assert_eq!(network(source("::ffff:192.0.2.1")), source("192.0.2.1"));
    }

    #[test]
    fn the_table_never_grows_beyond_its_bound() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..(MAX_SOURCES as u32 + 500) {
            let _ = throttle.failed(IpAddr::from(n.to_be_bytes()), now);
        }
        assert!(throttle.0.lock().unwrap().len() <= MAX_SOURCES);
    }
}
