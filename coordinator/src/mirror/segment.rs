//! A run's entries as objects: each holds what follows the one before it, and says so, so that a gap is seen.
//!
//! ```text
//! {"format":1,"run":"first","after":12,"entries":2,"sha256":"…"}      of all that follows
//! {"seq":15,"at_ms":1760000000000,"entry":{…}}
//! {"seq":17,"at_ms":1760000000400,"entry":{…}}
//! ```
//!
//! A sequence number is the journal's, of all runs together: a run's own have gaps between them, and `after` is the one
//! before. Segments may be put together into a longer one; those that it covers may still be there.

use lockstep_core::{Entry, Time};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Bumped when a segment changes its meaning.
const FORMAT_VERSION: u32 = 1;

/// An entry of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) seq: i64,
    pub(super) at_ms: Time,
    pub(super) entry: Entry,
}

/// Some of a run's entries, in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Segment {
    /// The entry before the first one; 0: none.
    pub(super) after: i64,
    pub(super) rows: Vec<Row>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    run: String,
    after: i64,
    entries: usize,
    sha256: String,
}

/// A run's entries cannot be had from the store.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum SegmentError {
    #[error("it does not read: {0}")]
    Syntax(String),
    #[error("it has format {found}, this version reads {FORMAT_VERSION}")]
    Format { found: u32 },
    #[error("it is of run {found}")]
    Run { found: String },
    #[error("it is damaged: its bytes do not have the digest that it bears")]
    Damaged,
    #[error("entries are missing between {reached} and {after}")]
    Gap { reached: i64, after: i64 },
}

impl Segment {
    /// Below a run's folder in the store.
    pub(super) fn name(&self) -> String {
        format!("{:020}-{:020}.jsonl", self.after, self.last())
    }

    pub(super) fn last(&self) -> i64 {
        self.rows.last().map_or(self.after, |row| row.seq)
    }

    /// # Errors
    /// Of an entry that JSON cannot hold, as an infinite number.
    pub(super) fn encode(&self, run: &str) -> serde_json::Result<Vec<u8>> {
        let mut body = Vec::new();
        for row in &self.rows {
            serde_json::to_writer(&mut body, row)?;
            body.push(b'\n');
        }
        let head = Head {
            format: FORMAT_VERSION,
            run: run.to_owned(),
            after: self.after,
            entries: self.rows.len(),
            sha256: hex::encode(Sha256::digest(&body)),
        };
        let mut bytes = serde_json::to_vec(&head)?;
        bytes.push(b'\n');
        bytes.append(&mut body);
        Ok(bytes)
    }

    pub(super) fn decode(run: &str, bytes: &[u8]) -> Result<Self, SegmentError> {
        let syntax = |error: serde_json::Error| SegmentError::Syntax(error.to_string());
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let (head, body) = bytes.split_at(end);
        let body = body.get(1..).unwrap_or_default();
        // What comes before all else may be of a later version with other fields.
        let format: serde_json::Value = serde_json::from_slice(head).map_err(syntax)?;
        let format = format["format"].as_u64().and_then(|format| u32::try_from(format).ok());
        if let Some(found) = format.filter(|format| *format != FORMAT_VERSION) {
            return Err(SegmentError::Format { found });
        }
        let head: Head = serde_json::from_slice(head).map_err(syntax)?;
        if head.run != run {
            return Err(SegmentError::Run { found: head.run });
        }
        if hex::encode(Sha256::digest(body)) != head.sha256 {
            return Err(SegmentError::Damaged);
        }
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let rows: Vec<Row> =
            lines.map(|line| serde_json::from_slice(line).map_err(syntax)).collect::<Result<_, _>>()?;
        let in_order =
            rows.iter().map(|row| row.seq).try_fold(head.after, |before, seq| (seq > before).then_some(seq));
        if in_order.is_none() || rows.len() != head.entries {
            return Err(SegmentError::Syntax(
                "its entries are not in order, or not as many as it says".to_owned(),
            ));
        }
        Ok(Self { after: head.after, rows })
    }
}

/// All entries of a run, each once.
pub(super) fn join(mut segments: Vec<Segment>) -> Result<Vec<Row>, SegmentError> {
    segments.sort_by_key(|segment| (segment.after, segment.last()));
    let mut reached = 0;
    let mut all = Vec::new();
    for segment in segments {
        if segment.after > reached {
            return Err(SegmentError::Gap { reached, after: segment.after });
        }
        let (last, known) = (segment.last(), reached);
        all.extend(segment.rows.into_iter().filter(|row| row.seq > known));
        reached = reached.max(last);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use lockstep_core::Step;
    use proptest::prelude::*;

    use super::*;

    fn rows(seqs: &[i64]) -> Vec<Row> {
        let row = |seq: &i64| Row {
            seq: *seq,
            at_ms: Time(seq.unsigned_abs()),
            entry: Entry::CheckpointDeleted { step: Step(seq.unsigned_abs()) },
        };
        seqs.iter().map(row).collect()
    }

    fn segment(after: i64, seqs: &[i64]) -> Segment {
        Segment { after, rows: rows(seqs) }
    }

    #[test]
    fn a_segment_comes_back_as_it_was_and_only_of_its_own_run() {
        let segment = segment(3, &[5, 6, 9]);
        assert_eq!(segment.name(), "00000000000000000003-00000000000000000009.jsonl");
        let bytes = segment.encode("a").unwrap();
        assert_eq!(Segment::decode("a", &bytes), Ok(segment));
        assert_eq!(Segment::decode("b", &bytes), Err(SegmentError::Run { found: "a".to_owned() }));
        let newer = String::from_utf8(bytes).unwrap().replacen("\"format\":1", "\"format\":2,\"new\":0", 1);
        assert_eq!(Segment::decode("a", newer.as_bytes()), Err(SegmentError::Format { found: 2 }));
    }

    #[test]
    fn segments_are_joined_whatever_covers_what_and_a_gap_is_seen() {
        let parts = [segment(0, &[2, 3]), segment(3, &[7]), segment(7, &[8, 9])];
        let whole = rows(&[2, 3, 7, 8, 9]);
        assert_eq!(join(parts.to_vec()).unwrap(), whole);
        let covered =
            [parts.to_vec(), vec![segment(0, &[2, 3, 7])], vec![segment(0, &[2, 3, 7, 8, 9])]].concat();
        assert_eq!(join(covered).unwrap(), whole);
        assert_eq!(join(vec![segment(0, &[2, 3, 7]), parts[2].clone()]).unwrap(), whole);
        let lost = join(vec![parts[0].clone(), parts[2].clone()]);
        assert_eq!(lost, Err(SegmentError::Gap { reached: 3, after: 7 }));
    }

    proptest! {
        #[test]
        fn a_byte_that_was_changed_is_found(at in 0_usize..10_000, change in 1_u8..=255) {
            let whole = segment(0, &[1, 2, 3, 4]);
            let mut bytes = whole.encode("a").unwrap();
            let at = at % bytes.len();
            bytes[at] ^= change;
            // The digest covers the entries, and the chain what the head says of them.
            if let Ok(read) = Segment::decode("a", &bytes) {
                prop_assert_eq!(read.rows, whole.rows);
            }
        }

        #[test]
        fn whatever_the_bytes_are_it_answers(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop(Segment::decode("a", &bytes));
        }
    }
}
