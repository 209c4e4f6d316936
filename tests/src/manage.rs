//! `/manage` of a running process, as a client with its token sees it.

use std::fs;

use serde_json::{Value, json};

use crate::client::{Request, Response};
use crate::standalone::Standalone;

/// A process and its management token.
#[derive(Debug)]
pub struct Manage<'p> {
    process: &'p Standalone,
    token: String,
}

/// A token that was created through `/manage`.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its id.
    pub id: String,
    /// Its value.
    pub value: String,
}

impl<'p> Manage<'p> {
    /// With the token that the process made for itself.
    ///
    /// # Panics
    /// If it made none.
    #[must_use]
    pub fn of(process: &'p Standalone) -> Self {
        let token = fs::read_to_string(process.setup().data().join("management-token")).expect("a management token");
        Self {
            process,
            token: token.trim().to_owned(),
        }
    }

    /// The management token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Sends a request with the token.
    #[must_use]
    #[track_caller]
    pub fn send(&self, request: Request) -> Response {
        self.process.send(&request.bearer(&self.token))
    }

    /// GET of a path below `/manage`.
    #[must_use]
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.send(Request::get(&format!("/manage{path}")))
    }

    /// POST of JSON.
    #[must_use]
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.send(Request::post(&format!("/manage{path}"), body))
    }

    /// PATCH of JSON.
    #[must_use]
    #[track_caller]
    pub fn patch(&self, path: &str, body: &Value) -> Response {
        let request = Request::new("PATCH", &format!("/manage{path}")).header("content-type", "application/json");
        self.send(request.body(body.to_string()))
    }

    /// DELETE.
    #[must_use]
    #[track_caller]
    pub fn delete(&self, path: &str) -> Response {
        self.send(Request::new("DELETE", &format!("/manage{path}")))
    }

    /// Creates a project with this key at the fleet's only provider.
    ///
    /// # Panics
    /// If it is not created.
    #[must_use]
    #[track_caller]
    pub fn project(&self, name: &str, key: &str) -> String {
        let response = self.post("/projects", &json!({"name": name, "api_key": key}));
        assert_eq!(response.status, 201, "{}", response.text());
        response.json()["id"].as_str().expect("its id").to_owned()
    }

    /// Creates a token that lives for an hour; `more` are further fields.
    ///
    /// # Panics
    /// If it is not created.
    #[must_use]
    #[track_caller]
    pub fn issue(&self, project: &str, more: Value) -> Created {
        let mut body = json!({"project_id": project, "duration_minutes": 60});
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let response = self.post("/tokens", &body);
        assert_eq!(response.status, 200, "{}", response.text());
        let answer = response.json();
        let text = |name: &str| answer[name].as_str().expect("a text").to_owned();
        Created {
            id: text("id"),
            value: text("token"),
        }
    }
}
