//! The fixed windows over which limits count: where one begins and ends on the database's clock. UTC, weeks from Monday.
//! It refuses to know what is counted.

use serde::{Deserialize, Serialize};

use crate::clock::DbTime;
use crate::statement::stored_as_text;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
const WEEK_MS: i64 = 7 * DAY_MS;
/// 1970-01-01 was a Thursday: the Monday before it.
const FIRST_MONDAY_MS: i64 = -3 * DAY_MS;

/// A kind of window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Window {
    /// Each minute.
    Minute,
    /// Each hour.
    Hour,
    /// Each day, from midnight UTC.
    Day,
    /// Each week, from Monday midnight UTC.
    Week,
    /// Each calendar month, UTC.
    Month,
    /// All time.
    Lifetime,
}

stored_as_text!(Window {
    Minute = "Minute",
    Hour = "Hour",
    Day = "Day",
    Week = "Week",
    Month = "Month",
    Lifetime = "Lifetime",
});

impl Window {
    /// All kinds that end.
    pub(crate) const ENDING: [Self; 5] = [Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month];

    /// Where the window around `now` begins and where the next one does. A lifetime begins at 0 and never ends.
    #[must_use]
    pub fn around(self, now: DbTime) -> (DbTime, DbTime) {
        let fixed = |length: i64, origin: i64| {
            let start = (now.0 - origin).div_euclid(length) * length + origin;
            (DbTime(start), DbTime(start.saturating_add(length)))
        };
        match self {
            Self::Minute => fixed(MINUTE_MS, 0),
            Self::Hour => fixed(HOUR_MS, 0),
            Self::Day => fixed(DAY_MS, 0),
            Self::Week => fixed(WEEK_MS, FIRST_MONDAY_MS),
            Self::Month => {
                let (year, month) = month_of(now.0.div_euclid(DAY_MS));
                let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                (DbTime(first_day(year, month) * DAY_MS), DbTime(first_day(next.0, next.1) * DAY_MS))
            }
            Self::Lifetime => (DbTime(0), DbTime(i64::MAX)),
        }
    }

    /// How long after its start a window's figures are kept: for late reports, which would change nothing any more, and for people to look at.
    pub(crate) fn kept_ms(self) -> i64 {
        match self {
            Self::Minute => 10 * MINUTE_MS,
            Self::Hour => 4 * HOUR_MS,
            Self::Day | Self::Week | Self::Month | Self::Lifetime => 400 * DAY_MS,
        }
    }
}

/// Days from 1970-01-01 to the first of a month (proleptic Gregorian), by counting years from March on, so that the leap day comes last.
fn first_day(year: i64, month: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The year and month (1 to 12) of a day: the inverse.
fn month_of(day: i64) -> (i64, i64) {
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let year = era * 400 + year_of_era;
    if month < 10 { (year, month + 3) } else { (year + 1, month - 9) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2028-02-29 12:34:56.789 UTC, a Tuesday.
    const LEAP_DAY: DbTime = DbTime(1_835_440_496_789);

    #[test]
    fn windows_begin_where_people_expect_them() {
        for (window, start, end) in [
            (Window::Minute, 1_835_440_440_000, 1_835_440_500_000),
            (Window::Hour, 1_835_438_400_000, 1_835_442_000_000),
            (Window::Day, 1_835_395_200_000, 1_835_481_600_000),
            // Monday the 28th of February to Monday the 6th of March.
            (Window::Week, 1_835_308_800_000, 1_835_913_600_000),
            (Window::Month, 1_832_976_000_000, 1_835_481_600_000),
            (Window::Lifetime, 0, i64::MAX),
        ] {
            assert_eq!(window.around(LEAP_DAY), (DbTime(start), DbTime(end)), "{window:?}");
        }
    }

    #[test]
    fn a_window_ends_where_the_next_begins_and_holds_its_own_start() {
        for window in Window::ENDING {
            let mut at = DbTime(-1);
            for _ in 0..1_000 {
                let (start, end) = window.around(at);
                assert!(start <= at && at < end, "{window:?} {at:?}");
                assert_eq!(window.around(start), (start, end));
                assert_eq!(window.around(end).0, end);
                at = end;
            }
        }
    }
}
