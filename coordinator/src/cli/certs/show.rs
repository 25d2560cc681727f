//! `lockstep certs show`: what files of credentials say, as a table or for programs. Keys are never read.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::super::stdout::print;
use super::super::{CliError, code};
use super::day;
use crate::credentials::{
    Certificate, CredentialError, Identity, Token, Validity, ValidityFault, read_credential,
};

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// A certificate (.pem), a token's file, or a folder of certificates
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
    /// For programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Row {
    file: String,
    kind: &'static str,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    expires: String,
    state: &'static str,
    days_left: i64,
    #[serde(skip)]
    until: Timestamp,
}

pub(super) fn run(args: &ShowArgs) -> Result<(), CliError> {
    let now = Timestamp::now();
    let files = files(&args.path)?;
    let rows: Vec<Row> = files.iter().map(|file| row(file, now)).collect::<Result<_, _>>()?;
    if args.json {
        let json = serde_json::to_string_pretty(&rows).map_err(anyhow::Error::from)?;
        print(&format!("{json}\n"))
    } else {
        print(&table(&rows))
    }
}

fn files(path: &Path) -> Result<Vec<PathBuf>, CliError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |source| CliError::from(CredentialError::Read { path: path.to_owned(), source });
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        files.push(entry.map_err(failed)?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "pem"));
    files.sort();
    if files.is_empty() {
        let message = format!("there is no certificate (.pem) in {}", path.display());
        return Err(CliError::new(code::USAGE, message).hint("`lockstep certs init` makes some"));
    }
    Ok(files)
}

fn row(path: &Path, now: Timestamp) -> Result<Row, CliError> {
    let bytes = read_credential(path)?;
    let file = path.display().to_string();
    if let Some(claims) = std::str::from_utf8(&bytes).ok().and_then(|text| Token::parse(text).ok()?.claims())
    {
        let Identity { names, role } = claims.identity;
        let valid = Validity { from: Timestamp::MIN, until: claims.expires };
        return Ok(Row {
            file,
            kind: "token",
            subject: names.to_string(),
            role: Some(role.as_str()),
            hosts: Vec::new(),
            not_before: None,
            expires: claims.expires.to_string(),
            state: state(valid, now),
            days_left: valid.days_left(now),
            until: claims.expires,
        });
    }
    let Certificate { subject, identity, hosts, is_authority, valid, .. } = Certificate::from_pem(&bytes)
        .map_err(|error| CredentialError::Unusable { path: path.to_owned(), why: error.to_string() })?;
    let kind = match &identity {
        _ if is_authority => "authority",
        Some(_) => "client",
        None => "server",
    };
    Ok(Row {
        file,
        kind,
        subject: identity.as_ref().map_or(subject, |identity| identity.names.to_string()),
        role: identity.map(|identity| identity.role.as_str()),
        hosts,
        not_before: Some(valid.from.to_string()),
        expires: valid.until.to_string(),
        state: state(valid, now),
        days_left: valid.days_left(now),
        until: valid.until,
    })
}

fn state(valid: Validity, now: Timestamp) -> &'static str {
    match valid.fault(now) {
        None => "valid",
        Some(ValidityFault::Expired(_)) => "expired",
        Some(ValidityFault::NotYet(_)) => "not yet valid",
    }
}

fn table(rows: &[Row]) -> String {
    let cells = |row: &Row| {
        let lasts = match row.state {
            "valid" if row.days_left < 2 => format!("{}, soon", row.until.strftime("%Y-%m-%d %H:%M UTC")),
            "valid" => format!("{}, in {} days", day(row.until), row.days_left),
            state => format!("{}, {state}", day(row.until)),
        };
        let hosts = row.hosts.join(", ");
        let role = row.role.unwrap_or("-").to_owned();
        [row.file.clone(), row.kind.to_owned(), row.subject.clone(), role, lasts, hosts]
    };
    let head = ["file", "kind", "subject", "role", "expires", "hosts"].map(str::to_owned);
    let all: Vec<[String; 6]> = std::iter::once(head).chain(rows.iter().map(cells)).collect();
    let widths: [usize; 6] =
        std::array::from_fn(|column| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in &all {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
