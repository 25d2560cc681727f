//! How two members prove to each other that they are of one generation, before anything of the other's counts.
//!
//! The coordinator has told a secret to the members of the generation and to nobody else. It never crosses these
//! connections, which are not encrypted: each side proves that it has it, by BLAKE3 keyed with it, over numbers that both
//! have drawn just now, over what the generation is (run, number, shards), over who dials whom, and over what it says of
//! itself. So nobody without the secret gets in, what was overheard fits no second time, and as the two roles sign
//! different things, nothing that a member has said can be sent back to it. The one who waits for callers asks, and hears the
//! proof first: whoever dials a member learns a random number and no more.
//!
//! All records have a fixed size, so that nothing is allocated or parsed by a stranger's word.

use std::io;

use blake3::{Hash, Hasher};
use rand_core::{OsRng, TryRngCore};

use super::error::CollectiveError;
use super::sharing::{OFFER_BYTES, Offer};
use super::tcp::Membership;

/// What every member speaks from its first byte on: a name, and a version of this handshake and all that follows it.
const PREFACE: [u8; PREFACE_BYTES] = *b"lockstep\x04\0\0\0";
const PREFACE_BYTES: usize = 12;
/// Separates the keys made here from all others that somebody may make of the same secret.
const KEY_CONTEXT: &str = "lockstep 2026-11-26 data plane, members of a generation";
/// Fewer could be guessed.
const SECRET_BYTES_MIN: usize = 16;
const NONCE_BYTES: usize = 32;
const RANK_BYTES: usize = 4;
const PROOF_BYTES: usize = blake3::OUT_LEN;
const SPEECH_BYTES: usize = NONCE_BYTES + RANK_BYTES + OFFER_BYTES;

/// From the one who is dialed: the preface and its number.
pub(crate) const CHALLENGE_BYTES: usize = PREFACE_BYTES + NONCE_BYTES;
/// From the dialer: its number, its rank, its offer, its proof.
pub(crate) const CLAIM_BYTES: usize = SPEECH_BYTES + PROOF_BYTES;
/// From the one who is dialed: its offer and its proof.
pub(crate) const ANSWER_BYTES: usize = OFFER_BYTES + PROOF_BYTES;

type Nonce = [u8; NONCE_BYTES];

/// What a member asks a caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Challenge(Nonce);

impl Challenge {
    /// A new one for every caller.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(crate) fn draw() -> io::Result<Self> {
        nonce().map(Self)
    }

    pub(crate) fn to_bytes(self) -> [u8; CHALLENGE_BYTES] {
        let mut bytes = [0; CHALLENGE_BYTES];
        let (preface, nonce) = bytes.split_at_mut(PREFACE_BYTES);
        preface.copy_from_slice(&PREFACE);
        nonce.copy_from_slice(&self.0);
        bytes
    }

    /// None when it is not a member's of this version.
    pub(crate) fn from_bytes(bytes: &[u8; CHALLENGE_BYTES]) -> Option<Self> {
        let (preface, nonce) = bytes.split_first_chunk()?;
        (*preface == PREFACE).then_some(Self(nonce.try_into().ok()?))
    }
}

/// A claim that was made, for the answer to be compared with.
#[derive(Debug)]
pub(crate) struct Claim {
    challenge: Challenge,
    bytes: [u8; CLAIM_BYTES],
    acceptor: u32,
}

impl Claim {
    pub(crate) fn bytes(&self) -> &[u8; CLAIM_BYTES] {
        &self.bytes
    }
}

/// A caller that has proven itself, and what to answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) rank: usize,
    pub(crate) offer: Offer,
    pub(crate) answer: [u8; ANSWER_BYTES],
}

/// What a proof is for.
#[derive(Clone, Copy)]
enum Role {
    Dialer = 1,
    Acceptor = 2,
}

/// A member's place in its generation, and what it proves it with.
pub(crate) struct Credential {
    /// Keyed, with everything that all members of the generation have in common.
    generation: Hasher,
    rank: u32,
    world_size: u32,
    /// Of memory to share.
    offer: Offer,
}

impl Credential {
    /// # Errors
    /// When the membership contradicts itself.
    pub(crate) fn new(membership: &Membership, offer: Offer) -> Result<Self, CollectiveError> {
        let group = &membership.group;
        if membership.token.len() < SECRET_BYTES_MIN {
            return Err(CollectiveError::InvalidGroup("the token has fewer than 16 bytes"));
        }
        if membership.rank != group.rank() || membership.peers.len() != group.world_size() {
            return Err(CollectiveError::InvalidGroup("the peers do not match the shard blocks"));
        }
        let number = |value: usize| {
            u32::try_from(value).map_err(|_| CollectiveError::InvalidGroup("there are too many members"))
        };
        let (rank, world_size) = (number(membership.rank)?, number(group.world_size())?);

        let mut layout = Hasher::new();
        layout.update(&group.shards().to_le_bytes());
        for block in group.blocks() {
            layout.update(&block.start.to_le_bytes()).update(&block.end.to_le_bytes());
        }
        let mut generation = Hasher::new_keyed(&blake3::derive_key(KEY_CONTEXT, &membership.token));
        // Each of a fixed size, so that no two memberships sign the same.
        generation
            .update(&PREFACE)
            .update(blake3::hash(membership.run.as_bytes()).as_bytes())
            .update(&membership.generation.to_le_bytes())
            .update(layout.finalize().as_bytes())
            .update(&world_size.to_le_bytes());
        Ok(Self { generation, rank, world_size, offer })
    }

    /// The dialer's word to rank `acceptor`, who has asked this.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(crate) fn claim(&self, challenge: Challenge, acceptor: usize) -> io::Result<Claim> {
        let acceptor = u32::try_from(acceptor).map_err(io::Error::other)?;
        let mut bytes = [0; CLAIM_BYTES];
        let (speech, proof) = bytes.split_at_mut(SPEECH_BYTES);
        let (own_nonce, said) = speech.split_at_mut(NONCE_BYTES);
        let (rank, offer) = said.split_at_mut(RANK_BYTES);
        own_nonce.copy_from_slice(&nonce()?);
        rank.copy_from_slice(&self.rank.to_le_bytes());
        offer.copy_from_slice(&self.offer.to_bytes());
        proof.copy_from_slice(self.prove(Role::Dialer, challenge, acceptor, &[speech]).as_bytes());
        Ok(Claim { challenge, bytes, acceptor })
    }

    /// Who has made a claim to this member; none when it is not one of those of the generation that dial it.
    pub(crate) fn admit(&self, challenge: Challenge, claim: &[u8; CLAIM_BYTES]) -> Option<Admitted> {
        let (speech, proof) = claim.split_first_chunk::<SPEECH_BYTES>()?;
        let expected = self.prove(Role::Dialer, challenge, self.rank, &[speech]);
        // In constant time: how long a refusal takes must not tell how much of a proof fits.
        if expected != Hash::from_bytes(proof.try_into().ok()?) {
            return None;
        }
        let (rank, offer) = speech[NONCE_BYTES..].split_first_chunk()?;
        let rank = u32::from_le_bytes(*rank);
        if !(self.rank + 1..self.world_size).contains(&rank) {
            return None;
        }
        let own_offer = self.offer.to_bytes();
        let proof = self.prove(Role::Acceptor, challenge, self.rank, &[claim, &own_offer]);
        let mut answer = [0; ANSWER_BYTES];
        let (offered, proven) = answer.split_at_mut(OFFER_BYTES);
        offered.copy_from_slice(&own_offer);
        proven.copy_from_slice(proof.as_bytes());
        let offer = Offer::from_bytes(offer.try_into().ok()?);
        Some(Admitted { rank: usize::try_from(rank).ok()?, offer, answer })
    }

    /// What the one who was dialed offers; none when it is not the member that the claim was made to.
    pub(crate) fn confirm(&self, claim: &Claim, answer: &[u8; ANSWER_BYTES]) -> Option<Offer> {
        let (offer, proof) = answer.split_first_chunk::<OFFER_BYTES>()?;
        let expected = self.prove(Role::Acceptor, claim.challenge, claim.acceptor, &[&claim.bytes, offer]);
        (expected == Hash::from_bytes(proof.try_into().ok()?)).then(|| Offer::from_bytes(offer))
    }

    /// `said` is of one size per role.
    fn prove(&self, role: Role, challenge: Challenge, acceptor: u32, said: &[&[u8]]) -> Hash {
        let mut proof = self.generation.clone();
        proof.update(&[role as u8]).update(&challenge.0).update(&acceptor.to_le_bytes());
        for part in said {
            proof.update(part);
        }
        proof.finalize()
    }
}

fn nonce() -> io::Result<Nonce> {
    let mut nonce = [0; NONCE_BYTES];
    OsRng.try_fill_bytes(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(nonce)
}

#[cfg(test)]
mod tests;
