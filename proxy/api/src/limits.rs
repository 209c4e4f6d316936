//! The bounds of `/manage`'s fields, in one place for server, client and OpenAPI. The schemas repeat them as literals, because attributes take
//! nothing else; a test holds both together.

/// The longest name of a project or token, in characters.
pub const MAX_NAME: usize = 128;
/// The longest name of a provider, in characters.
pub const MAX_PROVIDER: usize = 63;
/// The longest provider key, in characters.
pub const MAX_PROVIDER_KEY: usize = 4096;
/// The longest life of a token from its creation or extension: 365 days.
pub const MAX_DURATION_MINUTES: u64 = 525_600;
/// The largest count that every JSON reader takes exactly: 2⁵³ − 1.
pub const MAX_COUNT: u64 = 9_007_199_254_740_991;
/// The largest request body, in bytes; a larger one gets 413.
pub const MAX_BODY_BYTES: usize = 1 << 20;
/// The most items of one page, and how many there are if nobody asks.
pub const MAX_PAGE: u64 = 1000;
/// Audit events of a page, if nobody asks.
pub const PAGE_SIZE_DEFAULT: u64 = 20;
/// The most audit events of a page.
pub const PAGE_SIZE_MAX: u64 = 100;
/// The longest text that the audit is searched for, in characters.
pub const MAX_SEARCH: usize = 200;
