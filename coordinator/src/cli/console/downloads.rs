//! Progress bars of downloads and of pictures being read.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::data::DataProgress;
use crate::download::DownloadProgress;

/// A download's progress bar; where no terminal is, a line at its beginning.
#[derive(Debug, Default)]
pub(crate) struct DownloadBar {
    bar: std::sync::Mutex<Option<ProgressBar>>,
}

impl DownloadProgress for DownloadBar {
    fn begin(&self, name: &str, bytes_total: Option<u64>, bytes_done: u64) {
        let bar = ProgressBar::with_draw_target(bytes_total, ProgressDrawTarget::stderr());
        let style =
            ProgressStyle::with_template("{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name.to_owned());
        bar.set_position(bytes_done);
        if bar.is_hidden() {
            eprintln!("downloading {name}");
        }
        if let Ok(mut held) = self.bar.lock() {
            *held = Some(bar);
        }
    }

    fn advance(&self, bytes_done: u64) {
        if let Ok(held) = self.bar.lock()
            && let Some(bar) = &*held
        {
            bar.set_position(bytes_done);
        }
    }

    fn end(&self) {
        if let Ok(mut held) = self.bar.lock()
            && let Some(bar) = held.take()
        {
            bar.finish_and_clear();
        }
    }
}

impl DataProgress for DownloadBar {
    fn begin_pictures(&self, work: &str, pictures_total: u64) {
        let bar = ProgressBar::with_draw_target(Some(pictures_total), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {per_sec} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(work.to_owned());
        if bar.is_hidden() {
            eprintln!("{work}: {pictures_total}");
        }
        if let Ok(mut held) = self.bar.lock() {
            *held = Some(bar);
        }
    }

    fn advance_pictures(&self, pictures_done: u64) {
        self.advance(pictures_done);
    }

    fn end_pictures(&self) {
        self.end();
    }
}
