//! Files that are whole or not there.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A folder to write results to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// A file or folder that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be written: {error}; name another place with --out", path.display())]
pub struct WriteError {
    path: PathBuf,
    error: io::Error,
}

impl Folder {
    /// Makes the folder where it is missing, and tries to write in it, so that a long run does not end in vain.
    ///
    /// # Errors
    /// If it cannot be made or written to.
    pub fn prepare(path: &Path) -> Result<Self, WriteError> {
        let failed = |error| WriteError { path: path.to_owned(), error };
        fs::create_dir_all(path).map_err(failed)?;
        let trial = temporary(path, "trial");
        File::create(&trial).and_then(|_| fs::remove_file(&trial)).map_err(failed)?;
        Ok(Self(path.to_owned()))
    }

    /// Writes the file `name`: first under another name, which is changed when everything is written.
    ///
    /// # Errors
    /// If it cannot be written; then nothing new is left in the folder.
    pub fn write(
        &self,
        name: &str,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<PathBuf, WriteError> {
        let (path, unfinished) = (self.0.join(name), temporary(&self.0, name));
        let written = File::create(&unfinished).and_then(|file| {
            let mut output = BufWriter::with_capacity(1 << 16, file);
            content(&mut output)?;
            output.flush()
        });
        match written.and_then(|()| fs::rename(&unfinished, &path)) {
            Ok(()) => Ok(path),
            Err(error) => {
                // What matters is the error above; a file that cannot be removed either changes nothing.
                let _ = fs::remove_file(&unfinished);
                Err(WriteError { path, error })
            }
        }
    }
}

/// A name beside `name` that no other process uses.
fn temporary(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(".{name}.{}.part", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn files_are_whole_or_not_there() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let folder = Folder::prepare(&path).unwrap();
        assert!(names(&path).is_empty());
        folder.write("x", |out| out.write_all(b"first")).unwrap();
        let failed = folder.write("x", |out| {
            out.write_all(b"second")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("disk full"));
        assert_eq!(names(&path), ["x"]);
        assert_eq!(fs::read(path.join("x")).unwrap(), b"first");
    }

    #[test]
    fn a_file_is_no_folder() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(Folder::prepare(&path).is_err());
        assert!(Folder::prepare(&path.join("below")).is_err());
    }
}
