//! What differs from run to run, replaced by words of the same meaning; and tables whose columns are as wide as what is left.

/// A text in which moments, uids, keys' beginnings and numbers of versions are masked, word by word.
#[must_use]
pub fn words(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let kept = word.trim_end_matches(['.', ':']);
        masked.push_str(mask(kept).unwrap_or(kept));
        masked.push_str(&word[kept.len()..]);
        let between = after.find(is_part).unwrap_or(after.len());
        masked.push_str(&after[..between]);
        rest = &after[between..];
    }
    masked
}

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.:+".contains(c)
}

fn mask(word: &str) -> Option<&'static str> {
    let is_uid = word.len() == 36
        && word.bytes().enumerate().all(|(at, byte)| {
            if [8, 13, 18, 23].contains(&at) {
                byte == b'-'
            } else {
                byte.is_ascii_hexdigit()
            }
        });
    if is_uid {
        return Some("<uid>");
    }
    if word.len() == 14 && word.starts_with("sk-lp-") {
        return Some("sk-lp-<id>");
    }
    word.parse::<jiff::Timestamp>().is_ok().then_some("<time>")
}

/// The value behind one of these labels at a line's beginning, masked.
#[must_use]
pub fn labelled(text: &str, labels: &[&str]) -> String {
    let line = |line: &str| {
        let label = labels.iter().find(|label| line.trim_start().starts_with(**label));
        match label.and_then(|label| line.split_once(*label)) {
            Some((before, value)) => {
                let label = label.copied().unwrap_or_default();
                let gap: String = value.chars().take_while(|c| *c == ' ').collect();
                format!("{before}{label}{gap}<masked>\n")
            }
            None => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

/// kubectl's table (columns begin where their headings do) with some columns masked whole and the other cells by `mask`, laid out anew.
#[must_use]
pub fn table(text: &str, masked: &[&str], mask: impl Fn(&str) -> String) -> String {
    let mut lines = text.lines();
    let Some(heading) = lines.next() else { return String::new() };
    let starts: Vec<usize> = (0..heading.len())
        .filter(|&at| !heading[at..].starts_with(' ') && (at == 0 || heading[..at].ends_with("  ")))
        .collect();
    let cells = |line: &str| -> Vec<String> {
        let cell = |index: usize| {
            let end = starts.get(index + 1).copied().unwrap_or(line.len());
            line.get(starts[index]..end.min(line.len())).unwrap_or_default().trim().to_owned()
        };
        (0..starts.len()).map(cell).collect()
    };
    let headings = cells(heading);
    let hide = |mut row: Vec<String>| {
        for (cell, heading) in row.iter_mut().zip(&headings) {
            if masked.contains(&heading.as_str()) && !cell.is_empty() {
                *cell = "<masked>".to_owned();
            }
            *cell = mask(cell);
        }
        row
    };
    let rows: Vec<Vec<String>> = std::iter::once(headings.clone()).chain(lines.map(|line| hide(cells(line)))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0) + 3;
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let laid_out = |row: &Vec<String>| {
        let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(laid_out).collect()
}

#[test]
fn what_differs_from_run_to_run_is_masked_and_nothing_else() {
    let text = "until 2026-11-21T19:48:44Z. Key sk-lp-1a2B3c4D of 0b6d7e1c-1111-4222-8333-444455556666, ttl 24h: fine";
    assert_eq!(words(text), "until <time>. Key sk-lp-<id> of <uid>, ttl 24h: fine");
    assert_eq!(
        labelled("  Resource Version:  123\n  Revision: 1\n", &["Resource Version:"]),
        "  Resource Version:  <masked>\n  Revision: 1\n"
    );
    let rows = "NAME         READY   AGE\nwtok/one             17s\nwtok/three   True    3m2s\n";
    assert_eq!(
        table(rows, &["AGE"], str::to_owned),
        "NAME         READY   AGE\nwtok/one             <masked>\nwtok/three   True    <masked>\n"
    );
}
