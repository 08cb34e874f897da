//! No file knows the machine that it was written on: no absolute paths, no hosts of package registries.

use super::tree::{Fault, File};

/// Folders of one machine. Put together here, so that this file does not hold them.
const FOLDERS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/")];

/// Hosts that an ordinary client of a registry knows, and nobody else has to.
const HOSTS: [&str; 7] = [
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("//", "crates.io"),
    concat!("registry.", "npmjs.org"),
    concat!("deb.", "debian.org"),
];

/// Checks any text file but cargo's own lock files, whose form is cargo's.
pub(super) fn check(file: &File) -> Vec<Fault> {
    let mut faults = Vec::new();
    if file.path.ends_with("Cargo.lock") {
        return faults;
    }
    for (number, line) in file.lines() {
        for folder in FOLDERS.into_iter().filter(|folder| starts_a_path(line, folder)) {
            faults.push(file.fault(number, format!("an absolute path, `{folder}`")));
        }
        for host in HOSTS.into_iter().filter(|host| line.contains(host)) {
            faults.push(file.fault(number, format!("`{host}`: a registry is used by its client, by package name")));
        }
    }
    faults
}

/// Returns `true` if the folder stands where a path begins: `docs/work/x` and `../root/x` are relative.
fn starts_a_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '*' | '>'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> usize {
        check(&File { path: path.to_owned(), text: text.to_owned() }).len()
    }

    #[test]
    fn absolute_paths_and_registry_hosts_are_faults() {
        let folder = FOLDERS[0];

        assert_eq!(faults("a.md", &format!("see {folder}x\n`{folder}`\nfile://{folder}\n")), 3);
        assert_eq!(faults("a.toml", &format!("url = \"https:{}/x\"\n", HOSTS[4])), 1);
    }

    #[test]
    fn relative_paths_and_lock_files_are_not() {
        let folder = FOLDERS[1];

        assert_eq!(faults("a.md", &format!("docs{folder}x and ..{folder}x and $HOME{folder}\n")), 0);
        assert_eq!(faults("Cargo.lock", &format!("{folder} {}\n", HOSTS[2])), 0);
        assert_eq!(faults("a.md", "graph-flow from crates.io\n"), 0);
    }
}
