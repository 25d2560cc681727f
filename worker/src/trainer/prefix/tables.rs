//! What is kept: one table per split, a row per sample and view, computed in fixed blocks of rows.
//!
//! A block is computed as a whole: kernels may give a sample other bits in other company, and so whoever computes it, it is
//! the same. Blocks of an evaluated split are those that it is evaluated in.

use std::ops::Range;

use crate::plan::Split;

/// Which ways round pictures are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Views {
    Plain,
    Mirrored,
    Both,
}

impl Views {
    fn mirrored(self) -> &'static [bool] {
        match self {
            Self::Plain => &[false],
            Self::Mirrored => &[true],
            Self::Both => &[false, true],
        }
    }
}

/// The rows of a split: all samples in order, once for each view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) split: Split,
    pub(super) ids: Vec<u32>,
    views: Views,
    block_rows: usize,
    /// By id; of those that are not in the split, of no meaning.
    positions: Vec<u32>,
    /// Number of its first block among those of all tables.
    first_block: usize,
}

/// Rows that are computed, stored and sent as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) table: usize,
    pub(super) rows: Range<usize>,
    /// Of the table's samples.
    pub(super) samples: Range<usize>,
    pub(super) mirrored: bool,
    /// Unique among all blocks; fit for a file.
    pub(super) name: String,
}

/// Tables of `splits`, given as (split, samples, views), and their blocks of `block_rows` samples each.
pub(super) fn lay_out(splits: &[(Split, &[u32], Views)], block_rows: usize) -> (Vec<Table>, Vec<Block>) {
    let (mut tables, mut blocks) = (Vec::new(), Vec::new());
    for (number, &(split, ids, views)) in splits.iter().enumerate() {
        let last = ids.iter().max().map_or(0, |id| *id as usize + 1);
        let mut positions = vec![u32::MAX; last];
        for (position, id) in (0..).zip(ids) {
            positions[*id as usize] = position;
        }
        let first_block = blocks.len();
        for (view, &mirrored) in views.mirrored().iter().enumerate() {
            for (index, start) in (0..ids.len()).step_by(block_rows).enumerate() {
                let samples = start..(start + block_rows).min(ids.len());
                let rows = view * ids.len() + samples.start..view * ids.len() + samples.end;
                let name =
                    format!("{}-{}-{index:05}", word(split), if mirrored { "mirrored" } else { "plain" });
                blocks.push(Block { table: number, rows, samples, mirrored, name });
            }
        }
        tables.push(Table { split, ids: ids.to_vec(), views, block_rows, positions, first_block });
    }
    (tables, blocks)
}

fn word(split: Split) -> &'static str {
    match split {
        Split::Train => "train",
        Split::Validation => "val",
        Split::Test => "test",
    }
}

impl Table {
    pub(super) fn rows(&self) -> usize {
        self.ids.len() * self.views.mirrored().len()
    }

    /// Whether a sample has two rows.
    pub(super) fn shows_both(&self) -> bool {
        self.views == Views::Both
    }

    /// The row of a sample of the split, in the view that `mirrored` asks for where there are two.
    pub(super) fn row(&self, id: u32, mirrored: bool) -> usize {
        let view = usize::from(self.shows_both() && mirrored);
        view * self.ids.len() + self.positions[id as usize] as usize
    }

    /// The number of the block that holds `row`, and which of its rows it is.
    pub(super) fn block_of(&self, row: usize) -> (usize, usize) {
        let (view, position) = (row / self.ids.len(), row % self.ids.len());
        let blocks_per_view = self.ids.len().div_ceil(self.block_rows);
        let block = self.first_block + view * blocks_per_view + position / self.block_rows;
        (block, position % self.block_rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_one_block_and_every_sample_in_its_views() {
        let train: Vec<u32> = vec![1, 4, 5, 7, 9, 12, 13];
        let test: Vec<u32> = (0..5).collect();
        let splits = [(Split::Train, &train[..], Views::Both), (Split::Test, &test[..], Views::Plain)];
        let (tables, blocks) = lay_out(&splits, 3);
        assert_eq!((tables[0].rows(), tables[1].rows()), (14, 5));
        for (number, table) in tables.iter().enumerate() {
            let of_table = blocks.iter().filter(|block| block.table == number);
            let rows: Vec<usize> = of_table.flat_map(|block| block.rows.clone()).collect();
            assert_eq!(rows, (0..table.rows()).collect::<Vec<_>>());
            for row in 0..table.rows() {
                let (block, within) = table.block_of(row);
                assert_eq!((blocks[block].table, blocks[block].rows.start + within), (number, row));
            }
            for (id, mirrored) in table.ids.iter().flat_map(|id| [(*id, false), (*id, true)]) {
                let (block, within) = table.block_of(table.row(id, mirrored));
                assert_eq!(table.ids[blocks[block].samples.start + within], id);
                assert_eq!(blocks[block].mirrored, mirrored && table.views == Views::Both);
            }
        }
        let names: Vec<&str> = blocks.iter().map(|block| block.name.as_str()).collect();
        assert_eq!(names[2..5], ["train-plain-00002", "train-mirrored-00000", "train-mirrored-00001"]);
        assert_eq!(names.last(), Some(&"test-plain-00001"));
    }
}
