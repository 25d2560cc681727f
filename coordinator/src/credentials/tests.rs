//! The authority's folder: what is made, who may read it, and that nothing is made twice.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::*;

fn hosts() -> Vec<Host> {
    ["coordinator.example.org", "10.0.0.7", "::1"].map(|host| Host::parse(host).unwrap()).into()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn keys_are_for_their_owner_alone_and_certificates_for_everybody() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("deep/certs");
    Authority::init(&folder, hosts(), 30).unwrap();
    let authority = Authority::open(&folder).unwrap();
    authority.issue(&Subject::client("gpu-1", Role::Worker).unwrap(), 30, false).unwrap();
    authority.issue(&Subject::client("adam", Role::Admin).unwrap(), 30, false).unwrap();
    assert_eq!(mode(&folder), 0o700);
    let names: Vec<String> = contents(&folder).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "ca.key",
            "ca.pem",
            "server.key",
            "server.pem",
            "tokens.key",
            "user-adam.key",
            "user-adam.pem",
            "worker-gpu-1.key",
            "worker-gpu-1.pem"
        ]
    );
    for name in names {
        let expected = if name.ends_with(".key") { 0o600 } else { 0o644 };
        assert_eq!(mode(&folder.join(&name)), expected, "{name}");
    }
    let token = home.path().join("token");
    let identity = Identity { names: Names::pattern("*").unwrap(), role: Role::Worker };
    let claims = Claims { identity, expires: Timestamp::now() };
    write_token(&token, &issue_token(&folder, &claims).unwrap()).unwrap();
    assert_eq!(mode(&token), 0o600);
}

#[test]
fn an_empty_folder_that_is_there_is_closed_to_others_and_one_in_use_stays_as_it_is() {
    for (file, expected) in [(None, 0o700), (Some("notes"), 0o755)] {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        if let Some(file) = file {
            fs::write(folder.path().join(file), "mine").unwrap();
        }
        Authority::init(folder.path(), hosts(), 30).unwrap();
        assert_eq!(mode(folder.path()), expected);
    }
}

#[test]
fn a_second_init_changes_nothing_even_without_the_authoritys_key() {
    let folder = tempfile::tempdir().unwrap();
    let first = Authority::init(folder.path(), hosts(), 30).unwrap();
    assert!(first.is_new && first.is_new_server);
    let before = contents(folder.path());
    let second = Authority::init(folder.path(), Vec::new(), 99).unwrap();
    assert!(!second.is_new && !second.is_new_server);
    assert_eq!((&second.authority, &second.server), (&first.authority, &first.server));
    assert_eq!(contents(folder.path()), before);
    fs::remove_file(folder.path().join("ca.key")).unwrap();
    assert!(!Authority::init(folder.path(), hosts(), 30).unwrap().is_new);
}

#[test]
fn an_init_that_was_cut_short_anywhere_is_finished_by_the_next() {
    let whole = tempfile::tempdir().unwrap();
    Authority::init(whole.path(), hosts(), 30).unwrap();
    // In the order in which they are written.
    let order = ["ca.key", "ca.pem", "tokens.key", "server.key", "server.pem"];
    for written in 0..=order.len() {
        let folder = tempfile::tempdir().unwrap();
        for name in &order[..written] {
            fs::copy(whole.path().join(name), folder.path().join(name)).unwrap();
        }
        let made = Authority::init(folder.path(), hosts(), 30).unwrap();
        assert_eq!((made.is_new, made.is_new_server), (written < 2, written < 5), "{written} written");
        for name in &order[..written.min(3)] {
            let kept =
                fs::read(folder.path().join(name)).unwrap() == fs::read(whole.path().join(name)).unwrap();
            assert!(kept, "{name}");
        }
        ServerCredentials::load(folder.path()).unwrap();
    }
}

#[test]
fn many_that_start_at_once_on_one_folder_make_one_authority() {
    let folder = tempfile::tempdir().unwrap();
    let made: Vec<Initialised> = std::thread::scope(|scope| {
        let starting: Vec<_> =
            (0..8).map(|_| scope.spawn(|| Authority::init(folder.path(), hosts(), 30).unwrap())).collect();
        starting.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|made| made.is_new).count(), 1);
    assert!(made.iter().all(|one| one.authority == made[0].authority && one.server == made[0].server));
}

#[test]
fn nothing_is_overwritten_unasked() {
    let folder = tempfile::tempdir().unwrap();
    Authority::init(folder.path(), hosts(), 30).unwrap();
    let authority = Authority::open(folder.path()).unwrap();
    let subject = Subject::client("gpu-1", Role::Worker).unwrap();
    let issued = authority.issue(&subject, 30, false).unwrap();
    let before = contents(folder.path());
    let told = authority.issue(&subject, 30, false).unwrap_err();
    assert!(matches!(&told, CredentialError::Exists { .. }), "{told}");
    assert!(told.hint().is_some_and(|hint| hint.contains("--replace")));
    assert_eq!(contents(folder.path()), before);
    // A key that has lost its certificate is not overwritten either.
    fs::remove_file(&issued.cert).unwrap();
    assert!(authority.issue(&subject, 30, false).is_err());
    authority.issue(&subject, 30, true).unwrap();
    assert_ne!(contents(folder.path()), before);
}

#[test]
fn a_certificate_says_what_it_was_issued_for_and_ends_with_the_authority() {
    let folder = tempfile::tempdir().unwrap();
    let made = Authority::init(folder.path(), hosts(), 30).unwrap();
    assert_eq!(made.server.hosts, ["coordinator.example.org", "10.0.0.7", "::1"]);
    assert!(made.server.stands_for("COORDINATOR.example.org") && !made.server.stands_for("example.org"));
    assert!(made.server.is_issued_by(&made.authority) && made.authority.is_authority);
    assert!(!made.server.is_authority && made.server.identity.is_none());
    assert!((29..=30).contains(&made.server.valid.days_left(Timestamp::now())));
    let authority = Authority::open(folder.path()).unwrap();
    let issued = authority.issue(&Subject::client("adam", Role::Submitter).unwrap(), 9_000, false).unwrap();
    let certificate = Certificate::from_pem(&fs::read(&issued.cert).unwrap()).unwrap();
    let identity = Identity { names: Names::one("adam").unwrap(), role: Role::Submitter };
    assert_eq!(certificate.identity, Some(identity));
    assert!(issued.is_cut);
    assert_eq!(certificate.valid.until, made.authority.valid.until);

    let other = tempfile::tempdir().unwrap();
    let other = Authority::init(other.path(), hosts(), 30).unwrap();
    assert!(!certificate.is_issued_by(&other.authority));
    assert_ne!(other.authority.subject, made.authority.subject, "two authorities have two names");
}

#[test]
fn a_certificate_is_good_from_its_first_second_to_its_last() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let valid = Validity { from: at(100), until: at(200) };
    assert_eq!(valid.fault(at(99)), Some(ValidityFault::NotYet(at(100))));
    assert_eq!((valid.fault(at(100)), valid.fault(at(200))), (None, None));
    assert_eq!(valid.fault(at(201)), Some(ValidityFault::Expired(at(200))));
}

#[test]
fn a_servers_folder_that_does_not_fit_together_is_refused_with_the_file_that_is_wrong() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&one, &other] {
        Authority::init(folder.path(), hosts(), 30).unwrap();
    }
    let wrong = |change: &dyn Fn(&Path), said: &str| {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in contents(one.path()) {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        change(folder.path());
        let told = ServerCredentials::load(folder.path()).unwrap_err().to_string();
        assert!(told.contains(said), "{told}");
        assert!(!told.contains("PRIVATE KEY"), "{told}");
    };
    let from_other = |name: &'static str| {
        let bytes = fs::read(other.path().join(name)).unwrap();
        move |folder: &Path| fs::write(folder.join(name), &bytes).unwrap()
    };
    wrong(&from_other("ca.pem"), "server.pem cannot be used: ");
    wrong(&from_other("server.key"), "server.key cannot be used: ");
    wrong(&|folder| fs::remove_file(folder.join("server.key")).unwrap(), "server.key: there is no such file");
    wrong(&|folder| fs::write(folder.join("server.key"), "nonsense").unwrap(), "it holds no private key");
    wrong(
        &|folder| fs::write(folder.join("ca.pem"), "nonsense").unwrap(),
        "ca.pem cannot be used: it holds no",
    );
    wrong(&|folder| fs::write(folder.join("tokens.key"), "00").unwrap(), "tokens.key cannot be used: ");
    wrong(&|folder| fs::write(folder.join("ca.pem"), vec![b'x'; 2 << 20]).unwrap(), "too many");
    let nothing = tempfile::tempdir().unwrap();
    let told = ServerCredentials::load(nothing.path()).unwrap_err();
    assert!(told.hint().is_some_and(|hint| hint.contains("lockstep certs init")), "{told}");
}

#[test]
fn a_key_that_everybody_may_read_and_a_certificate_that_ends_soon_are_worth_a_word() {
    let folder = tempfile::tempdir().unwrap();
    Authority::init(folder.path(), hosts(), 30).unwrap();
    assert_eq!(ServerCredentials::load(folder.path()).unwrap().warnings(), [""; 0]);
    let key = folder.path().join("server.key");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let subject = Subject::Server { hosts: hosts() };
    let warned = ServerCredentials::load(folder.path()).unwrap().warnings().join("\n");
    assert!(warned.contains("server.key may be read by everybody"), "{warned}");
    Authority::open(folder.path()).unwrap().issue(&subject, 3, true).unwrap();
    let warned = ServerCredentials::load(folder.path()).unwrap().warnings().join("\n");
    assert!(warned.contains("server.pem expires in ") && !warned.contains("server.key"), "{warned}");
}

#[test]
fn a_chain_leads_to_an_authority_over_those_between_and_not_around_them() {
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let made: Vec<_> =
        folders.iter().map(|folder| Authority::init(folder.path(), hosts(), 30).unwrap()).collect();
    let (leaf, own, other) = (made[0].server.clone(), made[0].authority.clone(), made[1].authority.clone());
    let leads = |chain: &[&Certificate], authorities: &[&Certificate]| {
        let of =
            |certificates: &[&Certificate]| certificates.iter().map(|one| (*one).clone()).collect::<Vec<_>>();
        Certificate::leads_to(&of(chain), &of(authorities))
    };
    assert!(leads(&[&leaf], &[&own]) && leads(&[&leaf], &[&other, &own]) && leads(&[&leaf, &own], &[&own]));
    assert!(!leads(&[&leaf], &[&other]) && !leads(&[&leaf, &own], &[&other]) && !leads(&[&leaf], &[]));
    assert!(!leads(&[&leaf, &other], &[&made[2].authority]));
    // While one authority takes another's place, ca.pem holds both.
    let both = [folders[1].path(), folders[0].path()]
        .map(|folder| fs::read(folder.join("ca.pem")).unwrap())
        .concat();
    fs::write(folders[0].path().join("ca.pem"), both).unwrap();
    ServerCredentials::load(folders[0].path()).unwrap();
}

#[test]
fn names_that_would_leave_the_folder_are_none() {
    for name in ["../x", "a/b", "", ".hidden", "a\0b", "-x", "a b"] {
        assert!(Subject::client(name, Role::Worker).is_err(), "{name:?}");
    }
}

impl Authority {
    /// A certificate whose time is over.
    pub(crate) fn issue_expired(&self, subject: &Subject) -> Result<Issued, CredentialError> {
        let until = Timestamp::now() - SignedDuration::from_mins(5);
        self.issue_for(subject, Validity { from: until - SignedDuration::from_hours(24), until }, true)
    }
}
