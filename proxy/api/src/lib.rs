//! Floor 0: what two processes agree on over HTTP outside of `/v1`: so far the error body of `/manage`.
//! No I/O; it refuses to know LLM dialects, whose errors are `llm`'s.

mod error;

pub use error::ErrorBody;
