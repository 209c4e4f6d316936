//! Echo's embeddings: a unit vector of 8 numbers from the SHA-256 of each input, so that equal texts are equal and others are not.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::request::{Text, read, required};
use super::words::count;
use super::{Call, EchoAnswer, whole};
use crate::ApiError;

const DIMENSIONS: usize = 8;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(default)]
    encoding_format: Option<String>,
    #[serde(default)]
    dimensions: Option<u64>,
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Embedding>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Float([f32; DIMENSIONS]),
    /// The little-endian bytes of the floats, which the official SDKs ask for.
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

pub(super) fn reply(call: &Call<'_>) -> Result<EchoAnswer, ApiError> {
    let request: Request<'_> = read(call.body)?;
    if request.dimensions.is_some_and(|dimensions| dimensions != DIMENSIONS as u64) {
        return Err(ApiError::bad_request(
            "invalid_value",
            "dimensions",
            format!("Echo embeds into {DIMENSIONS} dimensions: leave the parameter out."),
        ));
    }
    let encode: fn([f32; DIMENSIONS]) -> Vector = match request.encoding_format.as_deref() {
        None | Some("float") => Vector::Float,
        Some("base64") => |vector| Vector::Base64(STANDARD.encode(vector.map(f32::to_le_bytes).concat())),
        Some(_) => {
            return Err(ApiError::bad_request(
                "invalid_value",
                "encoding_format",
                "The parameter \"encoding_format\" must be \"float\" or \"base64\".",
            ));
        }
    };
    let inputs = Text::read_all(required(request.input, "input")?, "input")?;
    if inputs.iter().any(|Text(input)| input.is_empty()) {
        return Err(ApiError::bad_request(
            "invalid_value",
            "input",
            "The parameter \"input\" must not hold an empty text.",
        ));
    }
    let tokens = inputs.iter().map(|Text(input)| count(input)).sum();
    let embedding = |(index, Text(input)): (usize, &Text)| Embedding {
        object: "embedding",
        index,
        embedding: encode(vector(input)),
    };
    Ok(whole(&List {
        object: "list",
        data: inputs.iter().enumerate().map(embedding).collect(),
        model: call.model,
        usage: Usage {
            prompt_tokens: tokens,
            total_tokens: tokens,
        },
    }))
}

fn vector(text: &str) -> [f32; DIMENSIONS] {
    let digest = Sha256::digest(text.as_bytes());
    let mut vector = [0f64; DIMENSIONS];
    for (number, bytes) in vector.iter_mut().zip(digest.chunks(4)) {
        let bits = bytes.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        *number = f64::from(bits) / f64::from(u32::MAX) * 2.0 - 1.0;
    }
    let length = vector.iter().map(|number| number * number).sum::<f64>().sqrt();
    vector.map(|number| (number / length) as f32)
}
