//! A look at a data set's first pictures, for a person.

use safetensors::SafeTensors;

use super::{DataError, IMAGE_BYTES, ResolvedData};

impl ResolvedData {
    /// The first `count` training pictures, or all where there are fewer: one after another (planes R, G, B of
    /// 32×32), and their labels.
    pub fn first_pictures(&self, count: usize) -> Result<(Vec<u8>, Vec<usize>), DataError> {
        let bytes = std::fs::read(&self.file).map_err(DataError::io("read", &self.file))?;
        let file = SafeTensors::deserialize(&bytes)?;
        let (images, labels) = (file.tensor("train.images")?, file.tensor("train.labels")?);
        let count = count.min(self.train);
        let labels = labels.data().chunks_exact(size_of::<i64>()).take(count);
        // The canonical file was checked when it was made: labels are small and not negative.
        let label = |bytes: &[u8]| bytes.first().copied().map_or(0, usize::from);
        Ok((images.data()[..count * IMAGE_BYTES].to_vec(), labels.map(label).collect()))
    }
}
