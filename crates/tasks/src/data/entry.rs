//! Names of archive entries: what they may be, although nothing is ever unpacked to where they point.

use super::error::Flaw;

/// Longest name of an entry that is read, in bytes.
const MAX_NAME: usize = 4096;

/// The components of an entry's name, or why the name is refused: it has to be UTF-8, relative, and stay below the
/// folder on every system (no `..`, no `\`, no drive letter, no NUL).
pub(super) fn components(name: &[u8]) -> Result<Vec<&str>, Flaw> {
    let shown = || name[..name.len().min(200)].escape_ascii().to_string();
    let refuse = |problem: &str| Err(Flaw::at(shown(), format!("{problem}, expected a relative path")));
    if name.len() > MAX_NAME {
        return Err(Flaw::at(
            shown(),
            format!("a name of {} bytes, expected at most {MAX_NAME}", name.len()),
        ));
    }
    let Ok(text) = std::str::from_utf8(name) else { return refuse("a name that is not UTF-8") };
    if text.contains('\\') {
        return refuse("a name with a backslash");
    }
    if text.chars().any(char::is_control) {
        return refuse("a name with a control character");
    }
    if text.starts_with('/') {
        return refuse("an absolute path");
    }
    if text.as_bytes().get(1) == Some(&b':') {
        return refuse("a path with a drive letter");
    }
    let text = text.strip_suffix('/').unwrap_or(text);
    let parts: Vec<&str> = text.split('/').filter(|&part| part != ".").collect();
    if parts.contains(&"..") {
        return refuse("a path that leaves the folder");
    }
    if parts.is_empty() || parts.contains(&"") {
        return refuse("a path with an empty component");
    }
    Ok(parts)
}

/// Whether the entry is of a kind that desktop systems leave behind in archives (`.DS_Store`, `__MACOSX/`).
pub(super) fn is_litter(parts: &[&str]) -> bool {
    parts.iter().any(|part| part.starts_with('.') || *part == "__MACOSX")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_are_taken_apart() {
        let check = |name: &str, parts: &[&str]| assert_eq!(components(name.as_bytes()).unwrap(), parts);
        check("a/b/c.png", &["a", "b", "c.png"]);
        check("./a/b", &["a", "b"]);
        check("a/", &["a"]);
        check("Japanese_(katakana)/ä..b", &["Japanese_(katakana)", "ä..b"]);
    }

    #[test]
    fn what_could_leave_the_folder_is_refused_by_name() {
        let check = |name: &[u8], part: &str| {
            let flaw = components(name).unwrap_err();
            assert!(flaw.problem.contains(part), "{}: {}", name.escape_ascii(), flaw.problem);
            assert!(flaw.entry.is_some());
        };
        check(b"../a", "leaves the folder");
        check(b"a/../../b", "leaves the folder");
        check(b"a/..", "leaves the folder");
        check(b"/etc/passwd", "an absolute path");
        check(b"C:/a", "a drive letter");
        check(b"c:a", "a drive letter");
        check(b"..\\a", "a backslash");
        check(b"\\\\host\\share", "a backslash");
        check(b"a\0b", "a control character");
        check(b"a//b", "an empty component");
        check(b"", "an empty component");
        check(b"a\xff", "not UTF-8");
        check(&[b'a'; 5000], "a name of 5000 bytes, expected at most 4096");
    }

    #[test]
    fn litter_is_told_from_data() {
        let check = |name: &str, litter| assert_eq!(is_litter(&components(name.as_bytes()).unwrap()), litter);
        check("__MACOSX/a/._b.png", true);
        check("a/.DS_Store", true);
        check("a/b.png", false);
    }
}
