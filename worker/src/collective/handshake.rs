//! What members show each other before a connection counts: the fence against former generations,
//! other runs and strangers.
//!
//! A record of fixed size, so that nothing is read or allocated by a stranger's word. The dialer shows its
//! first; the acceptor answers only when it fits, and so never shows the token to anybody without it.

use sha2::{Digest, Sha256};

use super::error::CollectiveError;
use super::sharing::{OFFER_BYTES, Offer};
use super::tcp::Membership;

const MAGIC: [u8; 8] = *b"lockstep";
const PROTOCOL_VERSION: u32 = 3;
pub(crate) const TOKEN_BYTES: usize = 16;
const COMMON_BYTES: usize = 8 + 4 + 8 + 32 + 32 + TOKEN_BYTES + 4;
pub(crate) const HELLO_BYTES: usize = COMMON_BYTES + 4 + OFFER_BYTES;

/// A member's introduction, ready to be compared.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Everything that all members of a generation have in common.
    common: [u8; COMMON_BYTES],
    pub(crate) rank: u32,
    /// Of memory to share.
    pub(crate) offer: Offer,
}

impl Hello {
    /// # Errors
    /// When the membership contradicts itself.
    pub(crate) fn new(membership: &Membership, offer: Offer) -> Result<Self, CollectiveError> {
        let group = &membership.group;
        if membership.token.len() != TOKEN_BYTES {
            return Err(CollectiveError::InvalidGroup("the token does not have 16 bytes"));
        }
        if membership.rank != group.rank() || membership.peers.len() != group.world_size() {
            return Err(CollectiveError::InvalidGroup("the peers do not match the shard blocks"));
        }
        let number = |value: usize| {
            u32::try_from(value).map_err(|_| CollectiveError::InvalidGroup("there are too many members"))
        };
        let (rank, world_size) = (number(membership.rank)?, number(group.world_size())?);

        let mut layout = Sha256::new();
        layout.update(group.shards().to_le_bytes());
        for block in group.blocks() {
            layout.update(block.start.to_le_bytes());
            layout.update(block.end.to_le_bytes());
        }
        let mut common = [0; COMMON_BYTES];
        let mut at = 0;
        for field in [
            MAGIC.as_slice(),
            &PROTOCOL_VERSION.to_le_bytes(),
            &membership.generation.to_le_bytes(),
            &Sha256::digest(&membership.run),
            &layout.finalize(),
            &membership.token,
            &world_size.to_le_bytes(),
        ] {
            common[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        }
        Ok(Self { common, rank, offer })
    }

    pub(crate) fn to_bytes(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        let (common, own) = bytes.split_at_mut(COMMON_BYTES);
        let (rank, offer) = own.split_at_mut(4);
        common.copy_from_slice(&self.common);
        rank.copy_from_slice(&self.rank.to_le_bytes());
        offer.copy_from_slice(&self.offer.to_bytes());
        bytes
    }

    /// The rank and the offer of whoever sent `bytes`, if it belongs to the same generation as this member.
    pub(crate) fn read(&self, bytes: &[u8; HELLO_BYTES]) -> Option<(usize, Offer)> {
        let (common, own) = bytes.split_at(COMMON_BYTES);
        let (rank, offer) = own.split_at(4);
        // No early exit: how long a refusal takes must not tell a stranger how much of the token fits.
        let difference = self.common.iter().zip(common).fold(0, |all, (a, b)| all | (a ^ b));
        let rank = rank.try_into().map(u32::from_le_bytes).ok()?;
        let offer = Offer::from_bytes(offer.try_into().ok()?);
        if difference == 0 { Some((usize::try_from(rank).ok()?, offer)) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::Group;

    fn membership() -> Membership {
        Membership {
            run: "run".to_owned(),
            generation: 3,
            token: vec![7; TOKEN_BYTES],
            rank: 1,
            peers: vec!["a:1".to_owned(), "b:2".to_owned()],
            group: Group::new(1, 2, vec![0..1, 1..2]).unwrap(),
        }
    }

    #[test]
    fn only_the_same_generation_is_recognised() {
        let offer = Offer { pid: 9, ..Offer::NONE };
        let own = Hello::new(&membership(), offer).unwrap();
        assert_eq!(own.read(&own.to_bytes()), Some((1, offer)));
        let others = [
            Membership { run: "other".to_owned(), ..membership() },
            Membership { generation: 2, ..membership() },
            Membership { token: vec![8; TOKEN_BYTES], ..membership() },
            Membership { group: Group::new(1, 2, vec![0..2, 2..2]).unwrap(), ..membership() },
            Membership { group: Group::new(1, 3, vec![0..1, 1..3]).unwrap(), ..membership() },
        ];
        for other in others {
            assert_eq!(own.read(&Hello::new(&other, offer).unwrap().to_bytes()), None, "{other:?}");
        }
        assert_eq!(own.read(&[0; HELLO_BYTES]), None);
    }

    #[test]
    fn a_membership_that_contradicts_itself_is_refused() {
        let refused = |membership: Membership| Hello::new(&membership, Offer::NONE).is_err();
        assert!(refused(Membership { token: vec![7; 15], ..membership() }));
        assert!(refused(Membership { rank: 0, ..membership() }));
        assert!(refused(Membership { peers: vec!["a:1".to_owned()], ..membership() }));
    }
}
