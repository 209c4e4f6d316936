//! Floor 0, the language of LLM providers: endpoints, dialects, bodies peeked, server-sent events, usage, and the Echo provider.
//! Pure functions over bytes: it refuses to know sockets, runtimes, clocks, tokens, databases.

pub mod dialect;
pub mod echo;
pub mod endpoint;
pub mod error;
pub mod estimate;
mod finder;
mod json;
mod observer;
pub mod peek;
pub mod prices;
mod scan;
pub mod sse;
pub mod usage;
mod whole;

pub use dialect::Dialect;
pub use echo::EchoAnswer;
pub use endpoint::{BodyKind, Endpoint, EndpointKind, ModelPlace};
pub use error::ApiError;
pub use estimate::estimate_prompt_tokens;
pub use observer::{Observed, UsageObserver};
pub use peek::{Peek, PeekError};
pub use prices::{Price, PriceList, PriceRule};
pub use usage::Usage;
