//! Where the libraries of CUDA, cuDNN and TensorRT may lie.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder to look in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub folder: PathBuf,
}

/// Everything that says where to look, so that tests can make it up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// `--cuda-libs`.
    pub option: Option<PathBuf>,
    /// `LD_LIBRARY_PATH`.
    pub library_path: Vec<PathBuf>,
    /// Roots of CUDA and of Python environments that variables name: `CUDA_HOME`, `CUDA_PATH`, `VIRTUAL_ENV`, `CONDA_PREFIX`.
    pub roots: Vec<PathBuf>,
    /// Folders of the system: those of the linker's cache first.
    pub system: Vec<PathBuf>,
    /// Folders of Python packages.
    pub packages: Vec<PathBuf>,
}

/// Where distributions and NVIDIA's own installers put libraries.
const STANDARD_FOLDERS: [&str; 8] = [
    "/usr/local/cuda/lib64",
    "/usr/local/cuda-13/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/lib/wsl/lib",
    "/opt/cuda/lib64",
];

/// Asks Python for its folders of packages, a line each.
const PYTHON_SCRIPT: &str = "import site, sysconfig
for folder in [sysconfig.get_path('purelib'), sysconfig.get_path('platlib'), *site.getsitepackages(), site.getusersitepackages()]:
    print(folder)";

impl Surroundings {
    pub(super) fn of_this_machine(option: Option<&Path>) -> Self {
        let roots = ["CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"];
        let mut system = linker_folders(&output_of("/sbin/ldconfig", &["-p"]));
        system.extend(STANDARD_FOLDERS.map(PathBuf::from));
        Self {
            option: option.map(Path::to_path_buf),
            library_path: std::env::var_os("LD_LIBRARY_PATH").map(|value| split(&value)).unwrap_or_default(),
            roots: roots.iter().filter_map(std::env::var_os).filter(|value| !value.is_empty()).map(PathBuf::from).collect(),
            system,
            packages: output_of("python3", &["-c", PYTHON_SCRIPT]).lines().map(PathBuf::from).collect(),
        }
    }

    /// All folders in the order in which they are looked in: what was named, then what variables name, the system, and Python's
    /// packages. Folders that do not exist are left out, but the named one is not: whoever named it wants to be told.
    pub(super) fn places(&self) -> Vec<Place> {
        let mut folders: Vec<PathBuf> = Vec::new();
        if let Some(option) = &self.option {
            folders.push(option.clone());
            folders.extend(["lib64", "lib"].map(|name| option.join(name)).into_iter().filter(|folder| folder.is_dir()));
            folders.extend(package_folders(option));
        }
        folders.extend(self.library_path.iter().cloned());
        for root in &self.roots {
            folders.extend(["lib64", "lib"].map(|name| root.join(name)));
            // A Python environment: lib/python3.12/site-packages.
            let pythons = subfolders(&root.join("lib")).into_iter().filter(|folder| name_starts_with(folder, "python3"));
            folders.extend(pythons.flat_map(|python| package_folders(&python.join("site-packages"))));
        }
        folders.extend(self.system.iter().cloned());
        folders.extend(self.packages.iter().flat_map(|folder| package_folders(folder)));
        let named = self.option.as_deref();
        let mut places: Vec<Place> = Vec::new();
        for folder in folders {
            let is_new = places.iter().all(|place| place.folder != folder);
            if is_new && (folder.is_dir() || Some(folder.as_path()) == named) {
                places.push(Place { folder });
            }
        }
        places
    }
}

/// Folders of libraries in a folder of Python packages: `nvidia/*/lib`, as NVIDIA's wheels have them, and those of TensorRT.
fn package_folders(packages: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = subfolders(&packages.join("nvidia")).iter().map(|folder| folder.join("lib")).collect();
    folders.extend(["tensorrt_libs", "tensorrt"].map(|name| packages.join(name)));
    folders.retain(|folder| folder.is_dir());
    folders
}

/// Folders inside a folder, sorted by name; none if it cannot be read.
pub(super) fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

pub(super) fn name_starts_with(path: &Path, beginning: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(beginning))
}

fn split(value: &OsStr) -> Vec<PathBuf> {
    std::env::split_paths(value).filter(|folder| !folder.as_os_str().is_empty()).collect()
}

/// Folders of NVIDIA's libraries in what `ldconfig -p` prints, such as
/// `libcudart.so.13 (libc6,x86-64) => /usr/local/cuda/lib64/libcudart.so.13`, in its order.
pub(super) fn linker_folders(listing: &str) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for line in listing.lines() {
        let Some((name, path)) = line.split_once("=>") else { continue };
        let name = name.trim_start();
        let folder = Path::new(path.trim()).parent().map(Path::to_path_buf);
        if let Some(folder) = folder.filter(|folder| !folders.contains(folder))
            && (name.starts_with("libcu") || name.starts_with("libnv"))
        {
            folders.push(folder);
        }
    }
    folders
}

/// What a command says; nothing if it fails or is not there.
fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
