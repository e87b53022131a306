//! Checkpoints as a command line names them: folders, and `hf://` names of the local cache.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use super::exit::{Exit, Failure};
use super::terminal;
use crate::guard::escape;
use crate::hub::{Cache, DownloadProgress, HubName, Remote, check_snapshot_path, download};

/// How the models of one command are found.
pub struct Models {
    remote: Option<Remote>,
    no_progress: bool,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn parsed(model: &Path) -> Result<Option<HubName>, Failure> {
    Ok(HubName::parse(&model.to_string_lossy())?)
}

impl Models {
    /// Prepares a download if one was asked for; `named` are all models of the command.
    pub fn new<'a>(named: impl Iterator<Item = &'a Path>, download: bool, no_progress: bool) -> Result<Self, Failure> {
        let mut any = false;
        for model in named {
            any |= parsed(model)?.is_some();
        }
        if download && !any {
            let error = anyhow::anyhow!("--download has nothing to fetch: no model is given by an hf:// name");
            return Err(Failure::new(Exit::Setup, error));
        }
        let remote = download.then(|| Remote::from_environment(variable)).transpose()?;
        Ok(Self { remote, no_progress })
    }

    /// The folder of a model: the path itself, or a snapshot in the cache.
    pub fn folder(&self, model: &Path) -> Result<PathBuf, Failure> {
        let Some(name) = parsed(model)? else {
            check_snapshot_path(model)?;
            return Ok(model.to_path_buf());
        };
        let cache = Cache::from_environment(variable)?;
        match &self.remote {
            None => Ok(cache.find(&name)?),
            Some(remote) => Ok(download(&cache, remote, &name, &mut self.reporter())?),
        }
    }

    /// Tells on standard error how far a download is: a bar on a terminal, else one line a file.
    fn reporter(&self) -> impl FnMut(DownloadProgress) + use<> {
        let (silent, interactive) = (self.no_progress, terminal::interactive());
        let current: RefCell<Option<(String, ProgressBar)>> = RefCell::new(None);
        move |progress| match progress {
            _ if silent => {}
            DownloadProgress::Waiting { file } => {
                eprintln!("{}: another process is fetching it; waiting", escape::terminal(&file))
            }
            DownloadProgress::Fetching { file, done_bytes, total_bytes } => {
                let mut current = current.borrow_mut();
                if current.as_ref().is_none_or(|(name, _)| *name != file) {
                    let bar = if interactive { bar(&file, total_bytes) } else { ProgressBar::hidden() };
                    if !interactive {
                        eprintln!("fetching {}, {:.1} MB", escape::terminal(&file), total_bytes as f64 / 1e6);
                    }
                    *current = Some((file, bar));
                }
                if let Some((_, bar)) = current.as_ref() {
                    bar.set_position(done_bytes);
                    if done_bytes == total_bytes {
                        bar.finish_and_clear();
                    }
                }
            }
        }
    }
}

fn bar(file: &str, total_bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} eta {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    let name = escape::terminal(&escape::shorten_middle(file, 40));
    ProgressBar::new(total_bytes).with_style(style).with_message(name)
}
