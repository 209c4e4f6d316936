//! What was measured, as Markdown for people and JSON for comparisons.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

/// The sections so far; each is printed as soon as it is there.
pub(crate) struct Report {
    markdown: String,
    json: Map<String, Value>,
}

impl Report {
    /// A report that begins with the machine.
    pub(crate) fn begin() -> Self {
        let first_line = |path: &str, key: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.lines()
                .find_map(|line| line.strip_prefix(key))
                .map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned())
                .unwrap_or_default()
        };
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let (model, kernel) = (first_line("/proc/cpuinfo", "model name"), first_line("/proc/version", "Linux version "));
        let kernel = kernel.split(' ').next().unwrap_or_default().to_owned();
        let mut report = Self {
            markdown: String::new(),
            json: Map::new(),
        };
        report.text(&format!(
            "{cpus} CPUs ({model}), Linux {kernel}; everything on the loopback interface of this machine: ratios hold, absolute figures drift."
        ));
        report
            .json
            .insert("machine".to_owned(), json!({"cpus": cpus, "model": model, "kernel": kernel}));
        report
    }

    /// A paragraph.
    pub(crate) fn text(&mut self, text: &str) {
        self.add(&format!("{text}\n\n"));
    }

    /// A table under a heading, and the same figures under `name` in the JSON.
    pub(crate) fn section(&mut self, name: &str, heading: &str, columns: &[&str], rows: &[Vec<String>], figures: Value) {
        let line = |cells: &mut dyn Iterator<Item = &str>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
        let mut table = format!("### {heading}\n\n{}", line(&mut columns.iter().copied()));
        table += &format!("|{}\n", "---|".repeat(columns.len()));
        for row in rows {
            table += &line(&mut row.iter().map(String::as_str));
        }
        self.add(&(table + "\n"));
        self.json.insert(name.to_owned(), figures);
    }

    /// Writes bench.md and bench.json.
    pub(crate) fn finish(self, out: &Path) {
        fs::create_dir_all(out).expect("the folder of the report");
        fs::write(out.join("bench.md"), self.markdown).expect("bench.md is written");
        fs::write(out.join("bench.json"), format!("{:#}\n", Value::Object(self.json))).expect("bench.json is written");
    }

    fn add(&mut self, text: &str) {
        print!("{text}");
        self.markdown += text;
    }
}

/// The value below which the share `quantile` of the (unsorted) values lies; 0 of none.
pub(crate) fn quantile(values: &[f64], quantile: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * quantile).round() as usize).copied().unwrap_or_default()
}

/// The median; 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Whether a figure keeps its limit, for a table.
pub(crate) fn verdict(met: bool) -> String {
    if met { "met".to_owned() } else { "**missed**".to_owned() }
}
