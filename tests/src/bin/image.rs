//! `image BINARY FILE NAME` packs the llm-proxy binary into an image archive and prints its name, id and size: what `make image` does where
//! there is no container engine.

use std::path::Path;
use std::process::ExitCode;

use testkit::image::{self, Recipe};

#[allow(clippy::print_stderr, clippy::print_stdout, reason = "a program, and this is all it says")]
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [binary, file, name] = words.as_slice() else {
        eprintln!("usage: image BINARY FILE NAME:TAG");
        return ExitCode::FAILURE;
    };
    let recipe = Recipe::of_llm_proxy(Path::new(binary), name);
    match image::write(&recipe, Path::new(file)) {
        Ok(image) => {
            let tenths = image.size / 100_000;
            println!("{} {} {}.{} MB in {file}", image.name, image.id, tenths / 10, tenths % 10);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("image: {why}");
            ExitCode::FAILURE
        }
    }
}
