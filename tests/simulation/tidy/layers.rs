//! Who may know whom: the arrows between packages, and between the modules of a package. Tests within a module keep
//! them too.

use crate::code::{CodePath, Token, paths, tokens};
use crate::tree::{Breach, SourceFile, assert_none, file, rust_files};

/// The layers of the worker that know nothing but themselves.
const WORKER_LAYERS: [&str; 3] = ["model", "data", "collective"];

/// Where the contract's generated types may be named. All else has types of its own.
const CONTRACT_READERS: [&str; 7] = [
    "coordinator/src/client",
    "coordinator/src/grpc",
    "coordinator/src/convert",
    "coordinator/src/prepare",  // carries the plan, unread, from convert to services
    "coordinator/src/services", // and from there to grpc
    "coordinator/tests",        // speaks as thousands of workers would
    "worker/src/client",
];

/// Who may hold the state machine: prepare creates it, and launch hands it to the driver, its owner. A fuzzer has it read what
/// no journal says.
const RUN_HOLDERS: [&str; 4] =
    ["coordinator/src/driver", "coordinator/src/fuzz", "coordinator/src/launch", "coordinator/src/prepare"];

#[test]
fn the_core_needs_serde_and_thiserror_alone() {
    let manifest = file("coordinator/core/Cargo.toml");
    let alien = dependencies(&manifest).into_iter().filter(|dependency| {
        let is_known = ["serde", "thiserror"].contains(&&*dependency.name);
        !is_known && dependency.section != "dev-dependencies"
    });
    let rule = |name| format!("the core is pure: it needs serde and thiserror, not {name}");
    assert_none(alien.map(|dependency| manifest.breach(dependency.line, rule(dependency.name))));
}

#[test]
fn coordinator_and_worker_meet_in_the_contract_alone() {
    let coordinator = file("coordinator/Cargo.toml");
    let worker = file("worker/Cargo.toml");
    let mut breaches = banned(&coordinator, &["tch", "torch-sys", "lockstep-worker"]);
    breaches.extend(banned(&worker, &["lockstep-core", "lockstep-coordinator"]));
    assert_none(breaches);
}

#[test]
fn generated_types_stay_at_the_wire() {
    let rule = "the contract's types are named in grpc, convert, prepare, services and client, and in the worker's client";
    let packages = |file: &SourceFile| in_sources(file) && !is_in_any(file, &CONTRACT_READERS);
    assert_none(breaches(packages, rule, |path, _, _| path.segments[0] == "lockstep_proto"));
}

#[test]
fn the_runs_state_has_one_owner() {
    let rule = "lockstep_core::Run is the driver's; prepare creates it, launch hands it on";
    let others = |file: &SourceFile| file.is_in("coordinator/src") && !is_in_any(file, &RUN_HOLDERS);
    assert_none(breaches(others, rule, |path, _, tokens| {
        let is_core = |name: &str| name == "lockstep_core" || is_alias(tokens, name, "lockstep_core");
        matches!(path.segments[..], [krate, "Run" | "*", ..] if is_core(krate))
    }));
}

#[test]
fn model_data_and_collective_know_only_themselves() {
    let rule =
        "model, data and collective import neither each other nor what is above them (data: plan::Split)";
    let layers = |file: &SourceFile| worker_layer(file).is_some();
    assert_none(breaches(layers, rule, |path, file, _| {
        let layer = worker_layer(file);
        let module = module(file);
        match path.absolute(&module).as_deref() {
            Some(["plan", "Split", ..]) => layer != Some("data"),
            Some([first, ..]) => layer != Some(first),
            Some([]) | None => false,
        }
    }));
}

#[test]
fn libtorch_stays_out_of_the_conversation() {
    let rule = "session and client talk to the trainer over channels: no tch here";
    let talkers = |file: &SourceFile| is_in_any(file, &["worker/src/session", "worker/src/client"]);
    assert_none(breaches(talkers, rule, |path, _, _| ["tch", "torch_sys"].contains(&path.segments[0])));
}

#[test]
fn async_stays_out_of_the_numbers() {
    let rule = "trainer, model, data and collective are plain threads: no tokio, no futures, no tonic here";
    let numbers = |file: &SourceFile| file.is_in("worker/src/trainer") || worker_layer(file).is_some();
    let crates = ["tokio", "tokio_stream", "tokio_util", "futures_util", "tonic"];
    assert_none(breaches(numbers, rule, |path, _, _| crates.contains(&path.segments[0])));
}

#[test]
fn an_import_between_layers_is_seen() {
    let text = "//! Planted.\nuse crate::{\n    data::Ledger,\n    plan::Split,\n};\nuse super::file;\n";
    let file = SourceFile { path: "worker/src/model/net.rs".into(), text: text.into() };
    let tokens = tokens(&file.text);
    let module = module(&file);
    let seen: Vec<String> = paths(&tokens)
        .iter()
        .filter_map(|path| Some(format!("{}: {}", path.line, path.absolute(&module)?.join("::"))))
        .collect();
    assert_eq!(seen, ["3: data::Ledger", "4: plan::Split", "6: model::file"]);
    assert_eq!((worker_layer(&file), file.is_in("worker/src/mod")), (Some("model"), false));
}

#[test]
fn an_alias_is_seen() {
    let tokens = tokens("use lockstep_core as core;");
    assert!(is_alias(&tokens, "core", "lockstep_core") && !is_alias(&tokens, "other", "lockstep_core"));
}

/// What the files that `looked_at` picks say against `rule`.
fn breaches(
    looked_at: impl Fn(&SourceFile) -> bool,
    rule: &str,
    is_breach: impl Fn(&CodePath<'_>, &SourceFile, &[Token<'_>]) -> bool,
) -> Vec<Breach> {
    let files: Vec<SourceFile> = rust_files().into_iter().filter(looked_at).collect();
    assert!(!files.is_empty(), "no file is under the rule: {rule}");
    let mut breaches = Vec::new();
    for file in &files {
        let tokens = tokens(&file.text);
        let paths = paths(&tokens);
        let against = paths.iter().filter(|path| is_breach(path, file, &tokens));
        breaches.extend(against.map(|path| file.breach(path.line, rule)));
    }
    breaches
}

fn in_sources(file: &SourceFile) -> bool {
    is_in_any(file, &["coordinator", "worker"])
}

fn is_in_any(file: &SourceFile, modules: &[&str]) -> bool {
    modules.iter().any(|module| file.is_in(module))
}

fn is_alias(tokens: &[Token<'_>], name: &str, krate: &str) -> bool {
    tokens.windows(3).any(|window| [window[0].text, window[1].text, window[2].text] == [krate, "as", name])
}

fn worker_layer(file: &SourceFile) -> Option<&'static str> {
    WORKER_LAYERS.into_iter().find(|layer| file.is_in(&format!("worker/src/{layer}")))
}

/// `worker/src/model/net.rs` is `model::net`.
fn module(file: &SourceFile) -> Vec<&str> {
    let inside = file.path.split_once("src/").map_or(&*file.path, |(_, inside)| inside);
    inside.trim_end_matches(".rs").split('/').collect()
}

#[test]
fn a_dependency_is_seen_in_every_spelling() {
    let text = "[dependencies]\na.workspace = true\nb = { package = \"c\", version = \"1\" }\n\
                [target.'cfg(unix)'.dependencies]\nd = \"1\"\n[dev-dependencies.e]\npackage = \"f\"\n[lints]\ng = 1\n";
    let manifest = SourceFile { path: "Cargo.toml".into(), text: text.into() };
    let names: Vec<String> = dependencies(&manifest).into_iter().map(|found| found.name).collect();
    assert_eq!(names, ["a", "c", "d", "e", "f"]);
}

struct Dependency {
    line: usize,
    section: String,
    name: String,
}

/// A manifest's dependencies of all kinds, by the names of their packages.
fn dependencies(manifest: &SourceFile) -> Vec<Dependency> {
    let mut found = Vec::new();
    let mut section = String::new();
    for (index, line) in manifest.text.lines().map(str::trim).enumerate() {
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = header.to_owned();
        }
        let renamed = line.split_once("package = \"").and_then(|(_, package)| package.split('"').next());
        let name = match section.split_once("dependencies.") {
            Some((_, name)) if line.starts_with('[') => name,
            Some(_) if line.starts_with("package") => line,
            _ if line.starts_with(['[', '#']) || line.is_empty() => continue,
            _ if section.ends_with("dependencies") => line.split(['.', '=', ' ']).next().unwrap_or(line),
            _ => continue,
        };
        let name = renamed.unwrap_or(name).trim_matches('"').to_owned();
        found.push(Dependency { line: index + 1, section: section.clone(), name });
    }
    assert!(!found.is_empty(), "{} has no dependencies: is it read rightly?", manifest.path);
    found
}

fn banned(manifest: &SourceFile, names: &[&str]) -> Vec<Breach> {
    let found = dependencies(manifest).into_iter().filter(|dependency| names.contains(&&*dependency.name));
    let rule = |name| format!("coordinator and worker meet in lockstep-proto alone: no {name} here");
    found.map(|dependency| manifest.breach(dependency.line, rule(dependency.name))).collect()
}
