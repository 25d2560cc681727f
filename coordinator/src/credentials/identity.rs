//! Whom a credential speaks for: a name and a role. Certificates carry both as URIs in their alternative names, where no
//! two fields can be mistaken for each other; tokens carry them in their claims.

use std::fmt;
use std::str::FromStr;

const ROLE_URI: &str = "lockstep:role:";
const NAME_URI: &str = "lockstep:name:";

/// A name is a label in logs and tables, and part of a file's name.
const NAME_BYTES_MAX: usize = 100;

/// What a caller may do. Admins may do what submitters may, and those what readers may; workers do another thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Worker,
    Reader,
    Submitter,
    Admin,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Worker, Self::Reader, Self::Submitter, Self::Admin];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Reader => "reader",
            Self::Submitter => "submitter",
            Self::Admin => "admin",
        }
    }

    /// Whether this role is enough.
    #[must_use]
    pub fn satisfies(self, need: Need) -> bool {
        match need {
            Need::Any => true,
            Need::Worker => self == Self::Worker,
            Need::Reader => self != Self::Worker,
            Need::Submitter => matches!(self, Self::Submitter | Self::Admin),
            Need::Admin => self == Self::Admin,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The word is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role: the roles are worker, reader, submitter and admin")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// What a request needs of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Any credential.
    Any,
    Worker,
    Reader,
    Submitter,
    Admin,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any role",
            Self::Worker => "role worker",
            Self::Reader => "role reader",
            Self::Submitter => "role submitter",
            Self::Admin => "role admin",
        })
    }
}

/// One name, or all that begin alike: `gpu-3`, `gpu-*`, `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Names {
    stem: String,
    is_open: bool,
}

/// The text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot be a name: 1 to 100 of the letters a to z, A to Z, 0 to 9, `.`, `_` and `-`, beginning with one of the first three"
)]
pub struct InvalidName(String);

impl Names {
    /// One name.
    pub fn one(name: &str) -> Result<Self, InvalidName> {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let begins_well = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if !begins_well || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_good) {
            return Err(InvalidName(name.escape_debug().to_string()));
        }
        Ok(Self { stem: name.to_owned(), is_open: false })
    }

    /// One name, or the beginning of several with a `*` behind it.
    pub fn pattern(text: &str) -> Result<Self, InvalidName> {
        match text.strip_suffix('*') {
            Some("") => Ok(Self { stem: String::new(), is_open: true }),
            Some(stem) => Self::one(stem).map(|names| Self { is_open: true, ..names }),
            None => Self::one(text),
        }
    }

    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if self.is_open { name.starts_with(&self.stem) } else { name == self.stem }
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stem)?;
        f.write_str(if self.is_open { "*" } else { "" })
    }
}

/// A name and a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub names: Names,
    pub role: Role,
}

impl Identity {
    /// As a certificate carries it.
    #[must_use]
    pub fn uris(&self) -> [String; 2] {
        [format!("{ROLE_URI}{}", self.role), format!("{NAME_URI}{}", self.names)]
    }

    /// What a certificate's URIs say; none where it says nothing, or something that cannot be.
    #[must_use]
    pub fn from_uris<'a>(uris: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let (mut roles, mut names) = (Vec::new(), Vec::new());
        for uri in uris {
            roles.extend(uri.strip_prefix(ROLE_URI));
            names.extend(uri.strip_prefix(NAME_URI));
        }
        // Two roles would leave it to us which one counts.
        let (&[role], &[name]) = (&roles[..], &names[..]) else { return None };
        Some(Self { names: Names::one(name).ok()?, role: role.parse().ok()? })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admins_do_all_that_people_do_and_workers_only_work() {
        let allowed = |role: Role| {
            [Need::Any, Need::Worker, Need::Reader, Need::Submitter, Need::Admin]
                .map(|need| u8::from(role.satisfies(need)))
        };
        assert_eq!(allowed(Role::Worker), [1, 1, 0, 0, 0]);
        assert_eq!(allowed(Role::Reader), [1, 0, 1, 0, 0]);
        assert_eq!(allowed(Role::Submitter), [1, 0, 1, 1, 0]);
        assert_eq!(allowed(Role::Admin), [1, 0, 1, 1, 1]);
    }

    #[test]
    fn an_identity_survives_its_uris_and_nothing_else_becomes_one() {
        for role in Role::ALL {
            let identity = Identity { names: Names::one("gpu-3.rack_1").unwrap(), role };
            let uris = identity.uris();
            assert_eq!(Identity::from_uris(uris.iter().map(String::as_str)), Some(identity));
        }
        for uris in [
            &["lockstep:role:admin"][..],
            &["lockstep:name:a"],
            &["lockstep:role:admin", "lockstep:role:worker", "lockstep:name:a"],
            &["lockstep:role:admin", "lockstep:name:a", "lockstep:name:b"],
            &["lockstep:role:Admin", "lockstep:name:a"],
            &["lockstep:role:root", "lockstep:name:a"],
            &["lockstep:role:worker", "lockstep:name:*"],
            &["lockstep:role:worker", "lockstep:name:../a"],
            &["https://lockstep:role:admin", "lockstep:name:a"],
        ] {
            assert_eq!(Identity::from_uris(uris.iter().copied()), None, "{uris:?}");
        }
    }

    #[test]
    fn a_pattern_stands_for_what_begins_like_it() {
        let gpus = Names::pattern("gpu-*").unwrap();
        assert!(
            gpus.matches("gpu-1") && gpus.matches("gpu-") && !gpus.matches("cpu-1") && !gpus.matches("gpu")
        );
        let one = Names::pattern("gpu-1").unwrap();
        assert!(one.matches("gpu-1") && !one.matches("gpu-11") && !one.matches("gpu-*"));
        assert!(Names::pattern("*").unwrap().matches("anybody"));
        for wrong in ["", "a b", "a/b", "..", "-a", "a*b", "**", "ü", "a\n", &"a".repeat(101)] {
            assert!(Names::pattern(wrong).is_err(), "{wrong:?}");
        }
    }
}
