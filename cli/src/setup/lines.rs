//! The lines of a configuration file: ours are set, all others stay where and as they are.

use zeroize::Zeroizing;

use crate::dotenv::line;

/// The text with each of `values` set, in its old place or at the end.
pub(super) fn merged(before: &str, values: &[(&str, &str)]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(before.len() + 4096));
    let mut set = vec![false; values.len()];
    for old in before.lines() {
        match values.iter().position(|(name, _)| sets(old, name)) {
            None => {
                text.push_str(old);
                text.push('\n');
            }
            // A second line of the same name would win in a shell and lose here: only one stays.
            Some(at) if set[at] => {}
            Some(at) => {
                text.push_str(&line(values[at].0, values[at].1));
                set[at] = true;
            }
        }
    }
    for ((name, value), set) in values.iter().zip(set) {
        if !set {
            text.push_str(&line(name, value));
        }
    }
    text
}

/// Whether this line sets the variable of that name.
fn sets(line: &str, name: &str) -> bool {
    let line = line.trim_start();
    let line = line
        .strip_prefix("export")
        .filter(|rest| rest.starts_with(char::is_whitespace))
        .map_or(line, str::trim_start);
    line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_set_and_all_else_stays() {
        let before = "# mine\nOTHER=1\nexport MANAGEMENT_TOKEN=old\n\nMANAGEMENT_TOKEN_2=x\nMANAGEMENT_TOKEN=older\n#LISTEN_ADDR=:1";
        let after = merged(before, &[("MANAGEMENT_TOKEN", "a b"), ("LISTEN_ADDR", ":8080")]);
        assert_eq!(
            after.as_str(),
            "# mine\nOTHER=1\nMANAGEMENT_TOKEN='a b'\n\nMANAGEMENT_TOKEN_2=x\n#LISTEN_ADDR=:1\nLISTEN_ADDR=:8080\n"
        );
        assert_eq!(merged(&after, &[("MANAGEMENT_TOKEN", "a b"), ("LISTEN_ADDR", ":8080")]), after);
        assert_eq!(merged("", &[("A", "1")]).as_str(), "A=1\n");
    }
}
