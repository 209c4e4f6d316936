//! What an observed token comes to: which revision is live, whose value the Secret holds, and whether anything may be issued.
//! It refuses to know what is to be done about it.

use crds::SecretFormat;
use store::{DbTime, RevisionState, RevisionView, TokenDeletionPolicy, TokenState, TokenView};

use super::timing;
use crate::effect::SecretVersion;
use crate::object::Standing;
use crate::observed::{ProjectSeen, SecretClaim, SecretContent, SecretSeen, TokenObserved};

/// The observation, read.
pub(super) struct Facts<'a> {
    /// The observation itself.
    pub(super) seen: &'a TokenObserved,
    /// The row, unless it was never written.
    pub(super) row: Option<&'a TokenView>,
    /// The active revision, if its end has not come.
    pub(super) active: Option<&'a RevisionView>,
    /// The newest revision that was ever activated, live or not.
    pub(super) latest: Option<&'a RevisionView>,
    /// The replaced revision that still lives.
    pub(super) overlap: Option<&'a RevisionView>,
    /// The Secret that the value belongs in now: the wanted one, or the one that the token has while the wanted one is not to be had.
    pub(super) home: Home<'a>,
    /// The other one of the two, if the wanted name is not the row's.
    pub(super) other: Option<Home<'a>>,
    /// What keeps the token from the Secret that it wants.
    pub(super) obstacle: Option<Obstacle<'a>>,
}

/// A Secret by name, and what it holds.
#[derive(Clone, Copy)]
pub(super) struct Home<'a> {
    /// Its name, in the token's namespace.
    pub(super) name: &'a str,
    /// What stands there.
    pub(super) holding: Holding<'a>,
}

/// Why a wanted Secret is not to be had.
#[derive(Clone, Copy)]
pub(super) enum Obstacle<'a> {
    /// Another token has it or wants it.
    Taken(&'a str),
    /// It is declared by somebody.
    Declared(&'a str),
    /// Something that is not ours stands there.
    Foreign,
    /// What stands there cannot be read.
    Unreadable(&'a str),
}

/// Whose a Secret is.
#[derive(Clone, Copy)]
pub(super) enum Holding<'a> {
    /// Nobody's: there is none.
    Nothing,
    /// Ours, with the value of this revision.
    Revision(&'a RevisionView, &'a SecretContent),
    /// Ours, with a content that is not of this token.
    Altered(&'a SecretContent),
    /// Not ours.
    Foreign,
    /// Cannot be read.
    Unreadable(&'a str),
}

impl<'a> Facts<'a> {
    /// Reads an observation.
    pub(super) fn of(seen: &'a TokenObserved) -> Self {
        let row = seen.row.as_ref();
        let now = seen.resource.now;
        let revisions = row.map_or(&[][..], |row| &row.revisions);
        let newest = |wanted: &dyn Fn(&RevisionView) -> bool| {
            revisions
                .iter()
                .filter(|revision| wanted(revision))
                .max_by_key(|revision| revision.revision)
        };
        let has_wanted_name = row.is_none_or(|row| row.secret_name == seen.secret_name);
        let wanted = Home {
            name: &seen.secret_name,
            holding: holding(row, has_wanted_name, &seen.secret),
        };
        let obstacle = Obstacle::of(&seen.claim, &wanted.holding);
        let former = row.zip(seen.former.as_ref()).map(|(row, former)| Home {
            name: &row.secret_name,
            holding: holding(Some(row), true, former),
        });
        let (home, other) = match former {
            Some(former) if obstacle.is_some() => (former, Some(wanted)),
            former => (wanted, former),
        };
        Self {
            seen,
            row,
            active: newest(&|revision| revision.state == RevisionState::Active && is_live(revision, now)),
            latest: newest(&|revision| revision.state != RevisionState::Pending),
            overlap: newest(&|revision| revision.state == RevisionState::Previous && is_live(revision, now)),
            home,
            other,
            obstacle,
        }
    }

    /// Revisions whose value may be in the Secret and was not activated, and which are still alive.
    pub(super) fn pending(&self) -> impl Iterator<Item = &'a RevisionView> {
        let now = self.seen.resource.now;
        let revisions = self.row.map_or(&[][..], |row| &row.revisions);
        revisions
            .iter()
            .filter(move |revision| revision.state == RevisionState::Pending && is_live(revision, now))
    }

    /// How long a new revision lives, in ms.
    pub(super) fn lifetime_ms(&self) -> i64 {
        let lifetime = self.seen.resource.spec.lifetime().unwrap_or(crds::DEFAULT_TTL);
        i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX)
    }

    /// How long a replaced revision lives on, in ms.
    pub(super) fn overlap_ms(&self) -> i64 {
        let named = self.seen.resource.spec.overlap().unwrap_or_default();
        named.map_or_else(
            || timing::overlap_ms(self.lifetime_ms()),
            |overlap| i64::try_from(overlap.as_millis()).unwrap_or(i64::MAX),
        )
    }

    /// Whether a Secret holds the active revision's value.
    pub(super) fn holds_active(&self, home: &Home<'_>) -> bool {
        let held = home.holding.revision();
        held.is_some_and(|held| self.active.is_some_and(|active| active.digest == held.digest))
    }

    /// Whether a Secret holds, beside its value, what it is to hold.
    pub(super) fn is_dressed(&self, content: &SecretContent) -> bool {
        let address = !self.seen.formats.contains(&SecretFormat::OpenAI) || content.base_url.as_deref() == Some(&self.seen.base_url);
        let owner = content.owned.is_none_or(|owned| owned == self.is_owned());
        address && owner && content.formats == self.seen.formats
    }

    /// What the spec says of a deletion, as it stands in the row.
    pub(super) fn deletion(&self) -> TokenDeletionPolicy {
        match self.seen.resource.spec.deletion_policy {
            crds::TokenDeletionPolicy::Revoke => TokenDeletionPolicy::Revoke,
            crds::TokenDeletionPolicy::Orphan => TokenDeletionPolicy::Orphan,
        }
    }

    /// Whether the Secret is to go with its token.
    pub(super) fn is_owned(&self) -> bool {
        self.deletion() == TokenDeletionPolicy::Revoke
    }

    /// Whether the spec asks for a further revision by another `rotation.trigger` than that of the active one.
    pub(super) fn is_rotation_asked(&self) -> bool {
        let wanted = self.seen.resource.spec.trigger();
        wanted.is_some() && self.active.is_some_and(|active| active.rotation_trigger.as_deref() != wanted)
    }

    /// Whether no Secret may be written: what stands there is not ours, or the name is not to be had and nothing of ours stands there yet.
    pub(super) fn is_blocked(&self) -> bool {
        let strange = matches!(self.home.holding, Holding::Foreign | Holding::Unreadable(_));
        let nothing_there = self.home.name == self.seen.secret_name && self.home.holding.ours().is_none();
        strange || (self.obstacle.is_some() && nothing_there)
    }

    /// The home's content to expect when it is replaced: none if there is none.
    pub(super) fn expected(&self) -> Option<SecretVersion> {
        self.home.holding.ours().cloned()
    }

    /// Whether a new value may be issued: the token is meant to work, and so is its project.
    pub(super) fn may_issue(&self) -> bool {
        let spec = &self.seen.resource.spec;
        let project_takes = matches!(self.seen.project, ProjectSeen::Ready { active: true, .. });
        let lives = self.row.is_none_or(|row| row.state != TokenState::Revoked);
        let known = self.row.is_some() || !matches!(self.seen.resource.standing, Standing::Invalid(_));
        self.seen.resource.spec_counts() && spec.state == crds::TokenState::Active && lives && project_takes && known && !self.is_blocked()
    }
}

impl<'a> Obstacle<'a> {
    fn of(claim: &'a SecretClaim, wanted: &Holding<'a>) -> Option<Self> {
        match (claim, wanted) {
            (SecretClaim::Taken(why), _) => Some(Self::Taken(why)),
            (SecretClaim::Declared(why), _) => Some(Self::Declared(why)),
            (SecretClaim::Free, Holding::Foreign) => Some(Self::Foreign),
            (SecretClaim::Free, Holding::Unreadable(why)) => Some(Self::Unreadable(why)),
            (SecretClaim::Free, _) => None,
        }
    }
}

impl Holding<'_> {
    /// The content to expect when this Secret is replaced or deleted: none if it is absent or not ours.
    pub(super) fn ours(&self) -> Option<&SecretVersion> {
        match self {
            Self::Revision(_, content) | Self::Altered(content) => Some(&content.version),
            Self::Nothing | Self::Foreign | Self::Unreadable(_) => None,
        }
    }

    /// The revision whose value it holds.
    pub(super) fn revision(&self) -> Option<&RevisionView> {
        if let Self::Revision(revision, _) = self { Some(revision) } else { None }
    }
}

fn is_live(revision: &RevisionView, now: DbTime) -> bool {
    revision.ends_at > now
}

/// Ours is what holds a value of this token, or says that it is; or, if it cannot say, what stands where this token is known to have written.
fn holding<'a>(row: Option<&'a TokenView>, has_name: bool, secret: &'a SecretSeen) -> Holding<'a> {
    let content = match secret {
        SecretSeen::Absent => return Holding::Nothing,
        SecretSeen::Unreadable(why) => return Holding::Unreadable(why),
        SecretSeen::Present(content) => content,
    };
    let digest = content.value.as_ref().map(store::TokenValue::digest);
    let mut revisions = row.into_iter().flat_map(|row| &row.revisions);
    if let Some(revision) = revisions.find(|revision| Some(revision.digest) == digest) {
        return Holding::Revision(revision, content);
    }
    if content.is_ours.unwrap_or_else(|| has_name && row.is_some_and(was_delivered)) {
        Holding::Altered(content)
    } else {
        Holding::Foreign
    }
}

/// Whether a value of this token may ever have reached its Secret.
fn was_delivered(row: &TokenView) -> bool {
    let reached = |revision: &RevisionView| revision.write_begun || matches!(revision.state, RevisionState::Active | RevisionState::Previous);
    row.revisions.iter().any(reached)
}
