//! Short-lived join tokens: whoever has one is let in as what it says, until it expires.
//!
//! A token is its claims and a keyed BLAKE3 over them, so the coordinator checks it without asking anybody. Whoever has
//! the key can make tokens of any role; a new key makes all earlier tokens worthless.

use std::fmt;

use jiff::Timestamp;
use rand_core::{OsRng, TryRngCore};

use super::identity::{Identity, Names};

const PREFIX: &str = "lockstep1";

/// Keeps this use of the secret apart from any other.
const CONTEXT: &str = "Lockstep 2025-11 join tokens";

/// More than any token that was issued has.
const TOKEN_BYTES_MAX: usize = 512;

/// Signs tokens and checks them.
#[derive(Clone)]
pub struct TokenKey([u8; 32]);

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub identity: Identity,
    pub expires: Timestamp,
}

/// A token, which is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Why a token is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    #[error("it is no token")]
    Malformed,
    #[error("this coordinator's key has not signed it")]
    Forged,
    #[error("it expired at {0}")]
    Expired(Timestamp),
}

impl TokenKey {
    /// The key that a file's text holds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut secret = [0; 32];
        hex::decode_to_slice(text.trim(), &mut secret).ok()?;
        Some(Self(blake3::derive_key(CONTEXT, &secret)))
    }

    /// What a file of a new key holds.
    pub fn draw() -> Result<String, rand_core::OsError> {
        let mut secret = [0; 32];
        OsRng.try_fill_bytes(&mut secret)?;
        Ok(format!("{}\n", hex::encode(secret)))
    }

    #[must_use]
    pub fn sign(&self, claims: &Claims) -> Token {
        let Claims { identity: Identity { names, role }, expires } = claims;
        let text = format!("{role}\n{names}\n{}", expires.as_second());
        let mac = blake3::keyed_hash(&self.0, text.as_bytes());
        Token(format!("{PREFIX}.{}.{}", hex::encode(text), mac.to_hex()))
    }

    /// What a token says, when this key has signed it and it has not expired.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, TokenFault> {
        let (text, mac) = parts(token).ok_or(TokenFault::Malformed)?;
        // In constant time, as blake3's hashes compare.
        if blake3::keyed_hash(&self.0, text.as_bytes()) != blake3::Hash::from_bytes(mac) {
            return Err(TokenFault::Forged);
        }
        let claims = claims(&text).ok_or(TokenFault::Malformed)?;
        if now > claims.expires {
            return Err(TokenFault::Expired(claims.expires));
        }
        Ok(claims)
    }
}

impl Token {
    /// What a file's text or a header holds, when it has the form of a token.
    pub fn parse(text: &str) -> Result<Self, TokenFault> {
        let text = text.trim();
        parts(text).map(|_| Self(text.to_owned())).ok_or(TokenFault::Malformed)
    }

    /// What it says of itself, which proves nothing.
    #[must_use]
    pub fn claims(&self) -> Option<Claims> {
        claims(&parts(&self.0)?.0)
    }

    /// The secret itself: to be handed out, or sent over TLS.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

fn parts(token: &str) -> Option<(String, [u8; 32])> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let (text, mac) = token.strip_prefix(PREFIX)?.strip_prefix('.')?.split_once('.')?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(mac, &mut bytes).ok()?;
    Some((String::from_utf8(hex::decode(text).ok()?).ok()?, bytes))
}

fn claims(text: &str) -> Option<Claims> {
    let mut lines = text.split('\n');
    let (role, names, expires) = (lines.next()?, lines.next()?, lines.next()?);
    let identity = Identity { names: Names::pattern(names).ok()?, role: role.parse().ok()? };
    let expires = Timestamp::from_second(expires.parse().ok()?).ok()?;
    lines.next().is_none().then_some(Claims { identity, expires })
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.claims()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Role;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn claims(role: Role) -> Claims {
        Claims { identity: Identity { names: Names::pattern("gpu-*").unwrap(), role }, expires: at(1_000) }
    }

    fn key() -> TokenKey {
        TokenKey::parse(&TokenKey::draw().unwrap()).unwrap()
    }

    #[test]
    fn a_token_says_what_was_signed_until_it_expires() {
        let key = key();
        for role in Role::ALL {
            let token = key.sign(&claims(role));
            assert_eq!(key.verify(token.reveal(), at(1_000)), Ok(claims(role)));
            assert_eq!(key.verify(token.reveal(), at(1_001)), Err(TokenFault::Expired(at(1_000))));
            assert_eq!(Token::parse(&format!("{}\n", token.reveal())), Ok(token));
        }
    }

    #[test]
    fn whatever_is_changed_in_a_token_makes_it_worthless() {
        let key = key();
        let token = key.sign(&claims(Role::Reader));
        let good = token.reveal();
        for at_byte in 0..good.len() {
            let mut bytes = good.as_bytes().to_vec();
            bytes[at_byte] = if bytes[at_byte] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(bytes).unwrap();
            let fault = key.verify(&changed, at(0)).unwrap_err();
            assert!(matches!(fault, TokenFault::Forged | TokenFault::Malformed), "{changed}: {fault}");
        }
        for length in 0..good.len() {
            assert_eq!(key.verify(&good[..length], at(0)), Err(TokenFault::Malformed));
        }
    }

    #[test]
    fn a_promoted_token_and_one_of_another_key_are_forged() {
        let (key, other) = (key(), key());
        let token = key.sign(&claims(Role::Reader));
        let mac = token.reveal().rsplit_once('.').unwrap().1;
        let promoted = format!("{PREFIX}.{}.{mac}", hex::encode("admin\ngpu-*\n1000"));
        assert_eq!(key.verify(&promoted, at(0)), Err(TokenFault::Forged));
        assert_eq!(other.verify(token.reveal(), at(0)), Err(TokenFault::Forged));
    }

    #[test]
    fn neither_key_nor_token_shows_itself_when_printed() {
        let secret = TokenKey::draw().unwrap();
        let key = TokenKey::parse(&secret).unwrap();
        let token = key.sign(&claims(Role::Worker));
        let shown = format!("{key:?} {token:?}");
        assert!(!shown.contains(token.reveal().rsplit_once('.').unwrap().1), "{shown}");
        assert!(!shown.contains(secret.trim()) && !shown.contains(&hex::encode(key.0)), "{shown}");
        assert!(shown.contains("gpu-"), "what it says of itself may be seen: {shown}");
    }
}
