//! One macro for enums that are words of the API: each variant documented, listed in `ALL`, spelled exactly as its name.
//! It refuses to know which words there are.

/// Declares an enum whose variants print as their own names, with `ALL`, `as_str`, `Display` and `FromStr`.
macro_rules! closed_set {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every word of the set, in the order of declaration.
            $vis const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word as it stands in the API.
            #[must_use]
            $vis const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::closed_set::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word).ok_or_else(|| $crate::closed_set::UnknownWord {
                    word: word.to_owned(),
                    set: stringify!($name),
                })
            }
        }
    };
}
pub(crate) use closed_set;

/// A word that its closed set does not hold, for example a condition type written by a newer version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not a known {set}")]
pub struct UnknownWord {
    /// What was read.
    pub word: String,
    /// The name of the set.
    pub set: &'static str,
}
