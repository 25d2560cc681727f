//! A new run: checked, then given its folder, then created.

use lockstep_core::{Origin, Run, RunSpec, WorkerBounds};
use lockstep_proto::v1 as pb;

use super::inputs::{resolve_data, resolve_weights, sample_counts};
use super::{Begun, PrepareError, Started, Tell};
use crate::convert;
use crate::data::ResolvedData;
use crate::driver::now;
use crate::home::Home;
use crate::plot::{self, Picture, Tile};
use crate::recipe::Recipe;
use crate::run_folder::{RunFacts, RunFolder};

/// A run that can begin; nothing is made yet.
#[derive(Debug)]
pub struct Draft {
    name: String,
    recipe: Recipe,
    data: ResolvedData,
    origin: Origin,
    spec: RunSpec,
    plan: pb::Plan,
}

impl Draft {
    /// Finds what the recipe needs, and checks that they fit together.
    pub fn new(
        name: &str,
        recipe: Recipe,
        workers: WorkerBounds,
        home: &Home,
        tell: &dyn Tell,
    ) -> Result<Self, PrepareError> {
        let data = resolve_data(&recipe, home, tell)?;
        let weights_digest = resolve_weights(&recipe, data.classes.len(), home, tell)?;
        let samples = sample_counts(&recipe, &data)?;
        let spec = convert::run_spec(&recipe, samples, workers)?;
        let origin = Origin {
            recipe: recipe.to_toml(),
            data_digest: data.digest.clone(),
            train_samples: samples.train,
            test_samples: samples.test,
            weights_digest,
            classes: data.classes.clone(),
        };
        let plan = convert::plan(name, &recipe, samples, &spec, &origin);
        Ok(Self { name: name.to_owned(), recipe, data, origin, spec, plan })
    }

    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// How many classes the data set has.
    pub fn classes(&self) -> usize {
        self.data.classes.len()
    }

    /// Lets the first workers take so long to join and to get ready.
    #[must_use]
    pub fn with_join_timeout(mut self, join_timeout_ms: u64) -> Self {
        self.spec.join_timeout_ms = join_timeout_ms;
        self
    }

    /// Makes the run's folder.
    pub fn make_folder(&self, home: &Home) -> Result<RunFolder, PrepareError> {
        let folder = RunFolder::create(&home.path, &self.name)?;
        self.write_into(&folder)?;
        Ok(folder)
    }

    /// Takes the folder that is there, of a try that did not get as far as the journal, or makes it.
    pub fn claim_folder(&self, home: &Home) -> Result<RunFolder, PrepareError> {
        let folder = RunFolder::claim(&home.path, &self.name)?;
        self.write_into(&folder)?;
        Ok(folder)
    }

    fn write_into(&self, folder: &RunFolder) -> Result<(), PrepareError> {
        folder.write_recipe(&self.origin.recipe).map_err(PrepareError::Write)
    }

    /// The run, at its beginning.
    pub fn begin(self, folder: RunFolder, started: Started) -> Begun {
        let Self { recipe, data, origin, spec, plan, .. } = self;
        draw_samples(&folder, &data);
        let facts = RunFacts::new(&recipe, &origin, spec.workers, started);
        let (run, effects) = Run::create(now(), spec, origin);
        Begun { run, effects, folder, plan, facts }
    }
}

/// The name of a run that nobody has named.
pub fn default_name(recipe: &Recipe) -> String {
    let now = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
    format!("{now}-{}-{}", recipe.model.name, recipe.data.name)
}

/// A look at the data; a run does not fail for want of a picture.
fn draw_samples(folder: &RunFolder, data: &ResolvedData) {
    const PICTURES: usize = 40;
    let drawn = data.first_pictures(PICTURES).map_err(anyhow::Error::from).and_then(|(images, labels)| {
        let plots = folder.path().join("plots");
        std::fs::create_dir_all(&plots)?;
        let named = |(picture, label): (Picture, &usize)| Tile::named(vec![picture], &data.classes[*label]);
        let tiles: Vec<Tile> =
            Picture::all(data.image_size, &images).into_iter().zip(&labels).map(named).collect();
        let title = format!("{}: the first of {} training samples", data.name, data.train);
        plot::write_gallery(&plots.join("samples.png"), &title, &tiles)
    });
    if let Err(error) = drawn {
        tracing::warn!(%error, "the sample pictures could not be drawn");
    }
}
