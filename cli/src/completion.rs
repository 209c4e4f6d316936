//! What kubectl asks `kubectl_complete-llm_proxy` when somebody presses TAB behind `kubectl llm-proxy`: the words of the command line so far, the
//! last of them unfinished. The answer is Cobra's: one candidate per line with its description behind a tab, and a directive for the shell.
//! It refuses to know what the commands do.

use std::fmt::Write as _;

use clap::{Arg, Command};

/// The shell is to complete file names.
const FILES: &str = ":0\n";
/// It is not.
const NO_FILES: &str = ":4\n";

/// The answer for these words.
pub(crate) fn answer(mut command: Command, words: impl Iterator<Item = String>) -> String {
    command.build();
    let mut words: Vec<String> = words.collect();
    let unfinished = words.pop().unwrap_or_default();
    let mut current = &command;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some(flag) = valued(current, word) {
            let Some(_value) = words.next() else {
                return values(flag, &unfinished);
            };
        } else if let Some(next) = current.find_subcommand(word) {
            current = next;
        }
    }
    let mut answer = String::new();
    if unfinished.starts_with('-') {
        let flags = current.get_arguments().filter(|arg| !arg.is_hide_set());
        for (flag, arg) in flags.filter_map(|arg| Some((format!("--{}", arg.get_long()?), arg))) {
            candidate(&mut answer, &unfinished, &flag, arg.get_help());
        }
    } else {
        for next in current.get_subcommands().filter(|next| !next.is_hide_set()) {
            candidate(&mut answer, &unfinished, next.get_name(), next.get_about());
        }
    }
    answer + NO_FILES
}

/// The flag that this word is, if its value stands in the next word.
fn valued<'c>(command: &'c Command, word: &str) -> Option<&'c Arg> {
    let is = |arg: &Arg| match word.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => word
            .strip_prefix('-')
            .is_some_and(|short| arg.get_short().is_some_and(|known| short.chars().eq([known]))),
    };
    command.get_arguments().find(|arg| is(arg) && arg.get_action().takes_values())
}

/// What the value of a flag may be; if that is not a matter of choice, file names.
fn values(flag: &Arg, unfinished: &str) -> String {
    let choices = flag.get_possible_values();
    if choices.is_empty() {
        return FILES.to_owned();
    }
    let mut answer = String::new();
    for choice in choices.iter().filter(|choice| !choice.is_hide_set()) {
        candidate(&mut answer, unfinished, choice.get_name(), choice.get_help());
    }
    answer + NO_FILES
}

fn candidate(answer: &mut String, unfinished: &str, word: &str, help: Option<&clap::builder::StyledStr>) {
    if word.starts_with(unfinished) {
        let help = help.map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(answer, "{word}\t{}", help.lines().next().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::Invocation;

    /// The candidates, and whether the shell is to complete file names.
    fn complete(words: &str) -> (Vec<String>, bool) {
        let words = words.split(' ').map(str::to_owned);
        let text = answer(Invocation::KubectlCompletion.command(), words);
        let (candidates, directive) = text.split_at(text.rfind(':').unwrap());
        let words = candidates.lines().map(|line| line.split_once('\t').unwrap().0.to_owned());
        (words.collect(), directive == FILES)
    }

    fn found(words: &str) -> Vec<String> {
        complete(words).0
    }

    #[test]
    fn commands_are_completed_at_every_depth() {
        assert_eq!(found("man"), ["manage"]);
        assert!(found("").contains(&"setup".to_owned()));
        assert!(found("manage ").contains(&"project".to_owned()));
        assert_eq!(found("manage -n team-a --fleet=x tok"), ["token"]);
        assert_eq!(found("manage token rev"), ["revoke", "revoke-all"]);
        assert_eq!(found("manage nonsense"), Vec::<String>::new());
    }

    #[test]
    fn flags_are_completed_with_those_that_every_manage_command_has() {
        assert_eq!(found("manage project list --fl"), ["--fleet"]);
        assert!(found("manage token generate --").contains(&"--max-requests".to_owned()));
        assert!(!found("status --").contains(&"--fleet".to_owned()));
    }

    #[test]
    fn a_value_is_chosen_from_those_that_there_are_or_is_a_file() {
        assert_eq!(complete("manage -o j"), (vec!["json".to_owned()], false));
        assert_eq!(complete("manage --kubeconfig "), (vec![], true));
        assert_eq!(complete("manage project list "), (vec![], false));
    }
}
