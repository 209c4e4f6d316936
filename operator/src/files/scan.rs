//! One look at all manifests: the valid objects, the ones held back with their faults, the Secrets, and whether everything could be read.
//! It refuses to know what was seen before and what stands in the database.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crds::{API_VERSION, GROUP, Kind};
use serde_json::Value;

use super::document::documents;
use super::fault::Fault;
use super::manifest::{self, Manifest, Rejected};
use super::object_key::ObjectKey;
use super::place::Place;
use super::secret_manifest::{self, SecretManifest};
use super::sources::{Reading, Seen, Sources, Text};

/// What one look showed.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The valid objects.
    pub(super) manifests: BTreeMap<ObjectKey, Manifest>,
    /// Objects whose document is there but not valid, with the first of its faults.
    pub(super) held: BTreeMap<ObjectKey, Fault>,
    /// The Secrets, by namespace and name.
    pub(super) secrets: BTreeMap<(String, String), SecretManifest>,
    /// Everything that is wrong, each in its document; what needs two documents is in `cross.rs`.
    pub(super) faults: Vec<Fault>,
    /// Whether every file was read and every document that may be one of ours was understood as far as its name.
    pub(super) clean: bool,
    /// The files that keep the scan from being clean, by source, with the first of their faults.
    pub(super) unclear: HashMap<Arc<str>, Fault>,
    /// How many objects and Secrets each root yields.
    pub(super) yields: HashMap<usize, usize>,
}

/// What one file showed. It depends on the file's text alone.
#[derive(Debug, Default)]
struct FileScan {
    manifests: Vec<Manifest>,
    secrets: Vec<SecretManifest>,
    held: Vec<(ObjectKey, Place, Fault)>,
    faults: Vec<Fault>,
    unclear: Option<Fault>,
}

/// Looks again and again, and parses only what changed.
#[derive(Debug)]
pub(super) struct Scanner {
    sources: Sources,
    seen: Seen,
    before: Option<(Reading, Arc<Scan>)>,
    files: HashMap<Arc<str>, (Text, Arc<FileScan>)>,
}

impl Scanner {
    /// A scanner of these sources.
    pub(super) fn new(sources: Sources) -> Self {
        Self {
            sources,
            seen: Seen::default(),
            before: None,
            files: HashMap::new(),
        }
    }

    /// Looks once. Blocking. The same scan is returned while no byte changes.
    pub(super) fn scan(&mut self) -> Arc<Scan> {
        let reading = self.sources.read(&mut self.seen);
        if let Some((before, scan)) = &self.before
            && *before == reading
        {
            return Arc::clone(scan);
        }
        let mut files = HashMap::new();
        for text in &reading.texts {
            let known = self.files.remove(&text.source).filter(|(before, _)| before == text);
            files.insert(
                Arc::clone(&text.source),
                known.unwrap_or_else(|| (text.clone(), Arc::new(scan_file(text)))),
            );
        }
        self.files = files;
        let in_order = reading.texts.iter().filter_map(|text| self.files.get(&text.source));
        let scan = Arc::new(gather(&reading, &in_order.cloned().collect::<Vec<_>>()));
        self.before = Some((reading, Arc::clone(&scan)));
        scan
    }
}

fn scan_file(text: &Text) -> FileScan {
    let mut scan = FileScan::default();
    for document in documents(&text.text) {
        let place = Place {
            file: Arc::clone(&text.file),
            source: Arc::clone(&text.source),
            document: Arc::new(document),
            within: String::new(),
        };
        match place.document.value() {
            Ok(value) if value["kind"] == "List" && value["apiVersion"] == "v1" => {
                for (index, item) in value["items"].as_array().into_iter().flatten().enumerate() {
                    scan.take(
                        item,
                        Place {
                            within: format!("items[{index}]"),
                            ..place.clone()
                        },
                    );
                }
            }
            Ok(value) => scan.take(&value, place),
            Err(broken) => {
                let fault = Fault {
                    file: text.file.to_string(),
                    line: Some(broken.line),
                    field: None,
                    message: broken.message,
                };
                scan.unclear.get_or_insert_with(|| fault.clone());
                scan.faults.push(fault);
            }
        }
    }
    scan
}

impl FileScan {
    fn take(&mut self, value: &Value, place: Place) {
        let (api_version, kind) = (
            value["apiVersion"].as_str().unwrap_or_default(),
            value["kind"].as_str().unwrap_or_default(),
        );
        if (api_version, kind) == ("v1", "Secret") {
            return match secret_manifest::read(value, place) {
                Ok(secret) => self.secrets.push(secret),
                Err(faults) => self.faults.extend(faults),
            };
        }
        match Kind::from_manifest(api_version, kind) {
            Ok(kind) => match manifest::read(kind, value, place.clone()) {
                Ok(manifest) => self.manifests.push(manifest),
                Err(Rejected { key, faults }) => {
                    if let (None, Some(first)) = (&key, faults.first()) {
                        self.unclear.get_or_insert_with(|| first.clone());
                    }
                    self.held.extend(key.zip(faults.first()).map(|(key, first)| (key, place, first.clone())));
                    self.faults.extend(faults);
                }
            },
            Err(_) => {
                // A slip in one of ours must not look like a deletion; somebody else's object is just not ours.
                let ours = api_version.is_empty() || api_version.split('/').next() == Some(GROUP) || kind.parse::<Kind>().is_ok();
                let field = if api_version == API_VERSION { "kind" } else { "apiVersion" };
                let message = unknown(api_version, kind);
                let fault = place.fault(field, message);
                if ours {
                    self.unclear.get_or_insert_with(|| fault.clone());
                }
                self.faults.push(fault);
            }
        }
    }
}

/// What is wrong with a kind that is not known here, and what to do.
fn unknown(api_version: &str, kind: &str) -> String {
    let meant = Kind::ALL.iter().find(|known| known.to_string().eq_ignore_ascii_case(kind));
    match meant {
        _ if api_version.is_empty() => format!("is missing: write apiVersion: {API_VERSION}, or apiVersion: v1 for a Secret"),
        Some(known) if api_version != API_VERSION => format!("{api_version:?} has no {known}: write apiVersion: {API_VERSION}"),
        Some(known) => format!("{kind:?} is not known: write kind: {known}"),
        None if api_version == API_VERSION => format!("{kind:?} is not known: {API_VERSION} has ProxyConfig, LLMProject and WitheringToken"),
        None if kind.eq_ignore_ascii_case("Secret") => "a Secret is of the core group: write apiVersion: v1 and kind: Secret".to_owned(),
        None => format!("{kind:?} of {api_version:?} is not for llm-proxy: keep it out of the files that are given with -f"),
    }
}

/// One document that declares an object: where, and what it came to.
type Declaration = (Place, Result<Manifest, Fault>);

/// Puts the files together. An object that is declared twice is held back: neither declaration is more right than the other.
fn gather(reading: &Reading, files: &[(Text, Arc<FileScan>)]) -> Scan {
    let mut scan = Scan {
        clean: reading.complete,
        ..Scan::default()
    };
    for failed in &reading.failed {
        scan.faults.push(failed.fault.clone());
        scan.unclear.extend(failed.source.clone().map(|source| (source, failed.fault.clone())));
    }
    let mut declared: BTreeMap<ObjectKey, Vec<Declaration>> = BTreeMap::new();
    let mut secrets: BTreeMap<(String, String), Vec<SecretManifest>> = BTreeMap::new();
    for (text, file) in files {
        *scan.yields.entry(text.root).or_default() += file.manifests.len() + file.held.len() + file.secrets.len();
        scan.clean &= file.unclear.is_none();
        scan.unclear.extend(file.unclear.clone().map(|fault| (Arc::clone(&text.source), fault)));
        scan.faults.extend(file.faults.iter().cloned());
        for manifest in &file.manifests {
            declared
                .entry(manifest.key.clone())
                .or_default()
                .push((manifest.place.clone(), Ok(manifest.clone())));
        }
        for (key, place, fault) in &file.held {
            declared.entry(key.clone()).or_default().push((place.clone(), Err(fault.clone())));
        }
        for secret in &file.secrets {
            secrets
                .entry((secret.namespace.clone(), secret.name.clone()))
                .or_default()
                .push(secret.clone());
        }
    }
    for (key, mut places) in declared {
        if places.len() > 1 {
            let faults = duplicates(&key.to_string(), &places.iter().map(|(place, _)| place.clone()).collect::<Vec<_>>());
            scan.held.extend(faults.first().map(|fault| (key, fault.clone())));
            scan.faults.extend(faults);
        } else {
            match places.pop() {
                Some((_, Ok(manifest))) => drop(scan.manifests.insert(key, manifest)),
                Some((_, Err(fault))) => drop(scan.held.insert(key, fault)),
                None => {}
            }
        }
    }
    for ((namespace, name), mut found) in secrets {
        if found.len() > 1 {
            let places: Vec<Place> = found.into_iter().map(|secret| secret.place).collect();
            scan.faults.extend(duplicates(&format!("Secret {namespace}/{name}"), &places));
        } else if let Some(secret) = found.pop() {
            scan.secrets.insert((namespace, name), secret);
        }
    }
    scan.faults.sort();
    scan.faults.dedup();
    scan
}

fn duplicates(what: &str, places: &[Place]) -> Vec<Fault> {
    let others = |place: &Place| {
        places
            .iter()
            .map(ToString::to_string)
            .filter(|other| *other != place.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    places
        .iter()
        .map(|place| {
            place.fault(
                "metadata.name",
                format!("{what} is declared again at {}; remove all but one", others(place)),
            )
        })
        .collect()
}
