//! The rows of the projects, as far as their tokens need them: read once and kept up by the projects' own looks, since nobody but the leader
//! writes a resource's project. It refuses to know what tokens make of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use store::{ProjectId, ProjectState, ProjectView, ResourceUid};

/// A project's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InForce {
    /// Its id.
    pub(crate) id: ProjectId,
    /// Whether its tokens may be used.
    pub(crate) state: ProjectState,
}

impl From<&ProjectView> for InForce {
    fn from(row: &ProjectView) -> Self {
        Self {
            id: row.id,
            state: row.state,
        }
    }
}

/// The rows of the projects that were looked at, by uid; `None` for a project that has no row. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProjectsInForce {
    inner: Arc<Mutex<HashMap<ResourceUid, Option<InForce>>>>,
}

impl ProjectsInForce {
    /// The row as it was last seen; nothing if it was not looked at yet.
    pub(crate) fn get(&self, project: &ResourceUid) -> Option<Option<InForce>> {
        self.lock().get(project).copied()
    }

    /// Notes the row as it was just read. Whether that changes what tokens were told.
    pub(crate) fn note(&self, project: &ResourceUid, row: Option<InForce>) -> bool {
        self.lock().insert(project.clone(), row) != Some(row)
    }

    /// Notes the row that a token had to read for itself: it counts if nothing better is known. That there was none yet may be out of date.
    pub(crate) fn note_as_read(&self, project: &ResourceUid, row: Option<InForce>) -> Option<InForce> {
        // What others were told is not replaced here: the project's own look would see no change then, and wake none of them.
        let known = *self.lock().entry(project.clone()).or_insert(row);
        row.or(known)
    }

    /// Forgets a project that is gone.
    pub(crate) fn forget(&self, project: &ResourceUid) {
        self.lock().remove(project);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ResourceUid, Option<InForce>>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_a_token_found_first_is_still_news_to_the_projects_own_look() {
        let (rows, project) = (ProjectsInForce::default(), ResourceUid::new("u"));
        let row = Some(InForce {
            id: ProjectId::new(),
            state: ProjectState::Active,
        });
        assert_eq!(rows.note_as_read(&project, None), None, "one token is told that there is none");
        assert_eq!(rows.note_as_read(&project, row), row, "another finds it");
        assert!(rows.note(&project, row), "the first one has to be woken");
        assert!(!rows.note(&project, row));
    }
}
