//! `lockstep certs`: the cluster's own authority, and certificates and tokens of it.
//!
//! What was made is named on stdout, file by file; what to do with it is said on stderr.

mod show;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

use super::stdout::print;
use super::{CliError, code};
use crate::credentials::{
    Authority, Claims, CredentialError, Host, Identity, Initialised, Issued, Names, Role, Subject,
    issue_token,
};

/// A token that lives longer is a certificate that cannot be told apart from others.
const TTL_MAX: SignedDuration = SignedDuration::from_hours(24 * 90);

#[derive(Debug, Args)]
pub(super) struct CertsArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a private certificate authority and the coordinator's certificate; what is there already stays
    Init(InitArgs),
    /// Issue a certificate
    #[command(subcommand)]
    Issue(IssueVerb),
    /// Tell whose certificates, or tokens, files are and how long they last
    Show(show::ShowArgs),
    /// Make a token that lets its bearer in for a short while
    Token(TokenArgs),
}

#[derive(Debug, Subcommand)]
enum IssueVerb {
    /// For a worker, which can join under this name alone
    Worker(WorkerArgs),
    /// For a person or a program
    User(UserArgs),
    /// For a coordinator
    Server(ServerArgs),
}

#[derive(Debug, Args)]
struct DirArgs {
    /// The authority's folder
    #[arg(long, value_name = "DIR", env = "LOCKSTEP_CERTS")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct HostArgs {
    /// A name or address by which the coordinator is reached; may be repeated. This machine's name and loopback are
    /// always among them
    #[arg(long = "host", value_name = "NAME|IP")]
    hosts: Vec<String>,
}

#[derive(Debug, Args)]
struct DaysArgs {
    /// How long it lasts
    #[arg(long, value_name = "N", default_value = "365", value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

#[derive(Debug, Args)]
struct ReplaceArgs {
    /// Put it in the place of one that is there
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
struct InitArgs {
    #[command(flatten)]
    dir: DirArgs,
    #[command(flatten)]
    hosts: HostArgs,
    #[command(flatten)]
    days: DaysArgs,
}

#[derive(Debug, Args)]
struct WorkerArgs {
    /// The name that the worker joins by
    name: String,
    #[command(flatten)]
    dir: DirArgs,
    #[command(flatten)]
    days: DaysArgs,
    #[command(flatten)]
    replace: ReplaceArgs,
}

#[derive(Debug, Args)]
struct UserArgs {
    /// Who will be said to have submitted a run
    name: String,
    /// What they may do: look, submit and stop runs, or drain workers too
    #[arg(long)]
    role: UserRole,
    #[command(flatten)]
    dir: DirArgs,
    #[command(flatten)]
    days: DaysArgs,
    #[command(flatten)]
    replace: ReplaceArgs,
}

#[derive(Debug, Args)]
struct ServerArgs {
    #[command(flatten)]
    hosts: HostArgs,
    #[command(flatten)]
    dir: DirArgs,
    #[command(flatten)]
    days: DaysArgs,
    #[command(flatten)]
    replace: ReplaceArgs,
}

#[derive(Debug, Args)]
struct TokenArgs {
    /// What its bearer may do
    #[arg(long)]
    role: Role,
    /// Who its bearer is; a worker's may end in `*` for all names that begin like it [default: `*` for workers]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How long it lasts, e.g. 30m, 1h, 7d
    #[arg(long, value_name = "TIME", default_value = "1h")]
    ttl: String,
    /// Write it to a file that its owner alone reads, instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    dir: DirArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum UserRole {
    Reader,
    Submitter,
    Admin,
}

impl From<UserRole> for Role {
    fn from(role: UserRole) -> Self {
        match role {
            UserRole::Reader => Self::Reader,
            UserRole::Submitter => Self::Submitter,
            UserRole::Admin => Self::Admin,
        }
    }
}

pub(super) fn run(args: CertsArgs) -> Result<u8, CliError> {
    match args.verb {
        Verb::Init(args) => init(&args)?,
        Verb::Issue(IssueVerb::Worker(args)) => {
            let subject = Subject::client(&args.name, Role::Worker)?;
            let issued = issue(&args.dir, &subject, &args.days, &args.replace)?;
            let Issued { cert, key, .. } = &issued;
            eprintln!(
                "take both, and ca.pem, to that machine: lockstep-worker join https://HOST:PORT --name {} --ca ca.pem \
                 --cert {} --key {}",
                args.name,
                file_name(cert),
                file_name(key)
            );
        }
        Verb::Issue(IssueVerb::User(args)) => {
            let subject = Subject::client(&args.name, args.role.into())?;
            issue(&args.dir, &subject, &args.days, &args.replace)?;
            eprintln!(
                "hand both over, and ca.pem; they are named in ~/.config/lockstep/config.toml as cert, key and ca"
            );
        }
        Verb::Issue(IssueVerb::Server(args)) => {
            let subject = Subject::Server { hosts: args.hosts.all()? };
            issue(&args.dir, &subject, &args.days, &args.replace)?;
            eprintln!("a coordinator that runs takes it when it starts again");
        }
        Verb::Show(args) => show::run(&args)?,
        Verb::Token(args) => token(&args)?,
    }
    Ok(0)
}

impl HostArgs {
    /// With those by which a coordinator is always reached.
    fn all(&self) -> Result<Vec<Host>, CredentialError> {
        let mut hosts: Vec<Host> =
            self.hosts.iter().map(|host| Host::parse(host)).collect::<Result<_, _>>()?;
        let own = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let always = [own.trim(), "localhost", "127.0.0.1", "::1"];
        for host in always.into_iter().filter_map(|host| Host::parse(host).ok()) {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        Ok(hosts)
    }
}

fn init(args: &InitArgs) -> Result<(), CliError> {
    let dir = &args.dir.dir;
    let hosts = args.hosts.all()?;
    let Initialised { is_new, authority, is_new_server, server } =
        Authority::init(dir, hosts.clone(), args.days.days)?;
    let until = authority.valid.until;
    if is_new {
        print(&listing(dir, &["ca.pem", "ca.key", "tokens.key"]))?;
        eprintln!(
            "a new authority, until {}: keep ca.key and tokens.key to yourself, hand ca.pem out",
            day(until)
        );
    } else {
        eprintln!("the authority in {} is there already, until {}", dir.display(), day(until));
    }
    if is_new_server {
        print(&listing(dir, &["server.pem", "server.key"]))?;
    }
    eprintln!("the coordinator is {}, until {}", server.hosts.join(", "), day(server.valid.until));
    let asked = args.hosts.hosts.len();
    let strange: Vec<String> =
        hosts[..asked].iter().map(Host::to_string).filter(|host| !server.stands_for(host)).collect();
    if !strange.is_empty() {
        eprintln!(
            "warning: its certificate is not for {}\nhint: `lockstep certs issue server --replace --dir {}` with all \
             --host that it shall have makes another",
            strange.join(", "),
            dir.display()
        );
    }
    Ok(())
}

fn issue(
    dir: &DirArgs,
    subject: &Subject,
    days: &DaysArgs,
    replace: &ReplaceArgs,
) -> Result<Issued, CliError> {
    let issued = Authority::open(&dir.dir)?.issue(subject, days.days, replace.replace)?;
    print(&format!("{}\n{}\n", issued.cert.display(), issued.key.display()))?;
    let with_authority = if issued.is_cut { ", with the authority" } else { "" };
    eprintln!("until {}{with_authority}", day(issued.valid.until));
    Ok(issued)
}

fn token(args: &TokenArgs) -> Result<(), CliError> {
    let names = match (&args.name, args.role) {
        (Some(name), Role::Worker) => Names::pattern(name),
        (Some(name), _) => Names::one(name),
        (None, Role::Worker) => Names::pattern("*"),
        (None, role) => {
            return Err(CliError::new(code::USAGE, format!("a token of role {role} needs a name"))
                .hint("--name says who will be said to have done what its bearer does"));
        }
    };
    let names = names.map_err(CredentialError::from)?;
    let expires = Timestamp::now().saturating_add(ttl(&args.ttl)?).map_err(anyhow::Error::from)?;
    let claims = Claims { identity: Identity { names, role: args.role }, expires };
    let token = issue_token(&args.dir.dir, &claims)?;
    match &args.out {
        Some(path) => {
            crate::credentials::write_token(path, &token)?;
            print(&format!("{}\n", path.display()))?;
        }
        None => print(&format!("{}\n", token.reveal()))?,
    }
    eprintln!("lets {} in until {}; whoever has it is them", claims.identity, claims.expires);
    Ok(())
}

fn ttl(text: &str) -> Result<SignedDuration, CliError> {
    let span: Option<Span> = text.parse().ok();
    let length = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    match length {
        Some(length) if length > SignedDuration::ZERO && length <= TTL_MAX => Ok(length),
        Some(_) => Err(CliError::new(code::USAGE, format!("--ttl {text}: a token lasts up to 90 days"))
            .hint("what shall last longer is a certificate's matter: `lockstep certs issue`")),
        None => Err(CliError::new(code::USAGE, format!("--ttl {text} is no time"))
            .hint("for example --ttl 30m, --ttl 1h or --ttl 7d")),
    }
}

fn listing(dir: &Path, names: &[&str]) -> String {
    names.iter().map(|name| format!("{}\n", dir.join(name).display())).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Nobody plans by the second.
fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_life_is_a_time_between_nothing_and_ninety_days() {
        for (text, seconds) in
            [("30m", 1_800), ("1h", 3_600), ("7d", 604_800), ("1h 30m", 5_400), ("90d", 7_776_000)]
        {
            assert_eq!(ttl(text), Ok(SignedDuration::from_secs(seconds)), "{text}");
        }
        for text in ["", "1", "soon", "0s", "-1h", "91d", "1y"] {
            let error = ttl(text).unwrap_err();
            assert_eq!(error.code, code::USAGE, "{text}");
            assert!(error.hint.is_some(), "{text}");
        }
    }

    #[test]
    fn a_coordinator_is_always_reached_on_its_own_machine_and_no_host_is_named_twice() {
        let args = HostArgs { hosts: vec!["Box.example.org".to_owned(), "::1".to_owned()] };
        let hosts: Vec<String> = args.all().unwrap().iter().map(Host::to_string).collect();
        assert_eq!(hosts[..2], ["box.example.org", "::1"]);
        for host in ["localhost", "127.0.0.1", "::1"] {
            assert_eq!(hosts.iter().filter(|named| *named == host).count(), 1, "{hosts:?}");
        }
        for wrong in ["", "a b", "http://box", "box:7070", "-.", "a..b"] {
            assert!(HostArgs { hosts: vec![wrong.to_owned()] }.all().is_err(), "{wrong:?}");
        }
    }
}
