//! A coordinator is found where a person named it, or the reason why not is.

use std::fs;
use std::path::PathBuf;

use super::config::{Config, Place};
use super::{RemoteArgs, RemoteError};

fn place(config: &str) -> (tempfile::TempDir, Place) {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".config/lockstep");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.toml"), config).unwrap();
    let place = Place::new(None, Some(home.path().to_owned()));
    (home, place)
}

fn said(url: &str) -> RemoteArgs {
    RemoteArgs { coordinator: Some(url.to_owned()), ..RemoteArgs::default() }
}

#[test]
fn a_flag_wins_over_the_file_and_no_file_is_no_coordinator() {
    let (_home, with_file) = place("coordinator = \"http://127.0.0.1:7070\"\n");
    let url = |args: &RemoteArgs, place| args.find_in(place).unwrap().map(|remote| remote.url());
    assert_eq!(url(&said("http://localhost:1"), &with_file).as_deref(), Some("http://localhost:1"));
    assert_eq!(url(&RemoteArgs::default(), &with_file).as_deref(), Some("http://127.0.0.1:7070"));
    assert_eq!(url(&said(""), &with_file).as_deref(), Some("http://127.0.0.1:7070"));
    assert_eq!(url(&RemoteArgs::default(), &Place::default()), None);
}

#[test]
fn xdg_config_home_is_honoured_and_paths_start_at_home_or_beside_the_file() {
    let home = tempfile::tempdir().unwrap();
    let xdg = home.path().join("xdg");
    fs::create_dir_all(xdg.join("lockstep")).unwrap();
    fs::write(xdg.join("lockstep/config.toml"), "ca = \"~/ca.pem\"\ncert = \"me.pem\"\nkey = \"/k.key\"\n")
        .unwrap();
    let config = Config::read(&Place::new(Some(xdg.clone()), Some(home.path().to_owned()))).unwrap();
    assert_eq!(config.ca, Some(home.path().join("ca.pem")));
    assert_eq!(config.cert, Some(xdg.join("lockstep/me.pem")));
    assert_eq!(config.key, Some(PathBuf::from("/k.key")));
}

#[test]
fn a_wrong_key_is_refused_with_its_line_and_the_right_one() {
    for (text, said, hint) in [
        ("ca = \"x\"\ncordinator = \"y\"\n", "unknown key `cordinator`", Some("did you mean `coordinator`?")),
        (
            "ca = \"x\"\npassword = \"y\"\n",
            "unknown key `password`",
            Some("the keys there are coordinator, ca"),
        ),
        ("# mine\nkey = 3\n", "`key` must be a text in quotes", None),
        ("ca = \"x\"\ncert = \n", "", None),
    ] {
        let (_home, place) = place(text);
        let error = Config::read(&place).unwrap_err();
        let shown = error.to_string();
        assert!(shown.contains(said) && shown.ends_with("config.toml, line 2"), "{shown}");
        match (hint, error.hint()) {
            (Some(hint), Some(said)) => assert!(said.starts_with(hint), "{said}"),
            (hint, said) => assert_eq!(hint, said.as_deref()),
        }
    }
}

#[test]
fn an_address_that_cannot_be_or_would_pass_in_the_clear_is_refused() {
    for (url, why) in [
        ("gpu-box:7070", "begins with neither"),
        ("ftp://gpu-box:7070", "begins with neither"),
        ("https://gpu-box", "no port"),
        ("https://gpu-box:7070/runs", "after the port"),
        ("https://me:secret@gpu-box:7070", "no place in it"),
        ("http://gpu-box:7070", "over TLS alone"),
        ("http://10.0.0.1:7070", "over TLS alone"),
        ("not a url", "no URL"),
    ] {
        let error = said(url).find_in(&Place::default()).unwrap_err();
        assert!(matches!(&error, RemoteError::Url { why: said, .. } if said.contains(why)), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("https://HOST:PORT")));
    }
    for url in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"] {
        assert!(said(url).find_in(&Place::default()).unwrap().is_some(), "{url}");
    }
}

#[tokio::test]
async fn nobody_at_the_address_is_said_so() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let remote = said(&url).find_in(&Place::default()).unwrap().unwrap();
    let error = remote.connect().await.unwrap_err();
    let shown = error.to_string();
    assert!(shown.starts_with(&format!("the coordinator at {url} cannot be reached: ")), "{shown}");
    assert!(shown.contains("refused"), "{shown}");
    assert!(error.hint().is_some());
}
