//! The name that was probably meant.

/// The candidate nearest to `name` by edit distance, if it is near enough to be a slip (a third
/// of its letters) or if one of the two begins the other. Case does not count.
pub(crate) fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase();
    if name.is_empty() {
        return None;
    }
    candidates
        .iter()
        .map(|&candidate| {
            let begins = candidate.starts_with(&name) || name.starts_with(candidate);
            let distance = if begins { 0 } else { edits(&name, candidate) };
            (distance, candidate)
        })
        .filter(|(distance, candidate)| distance * 3 <= candidate.len())
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance: the fewest insertions, deletions and substitutions of one character.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances_are_levenshteins() {
        let check = |a, b, distance| {
            assert_eq!(edits(a, b), distance, "{a} to {b}");
            assert_eq!(edits(b, a), distance, "{b} to {a}");
        };
        check("kitten", "sitting", 3);
        check("flaw", "lawn", 2);
        check("", "abc", 3);
        check("same", "same", 0);
    }

    #[test]
    fn slips_and_beginnings_are_recognised_and_strangers_are_not() {
        let check = |name, expected| {
            let names = ["copying", "cue-reward", "regression"];
            assert_eq!(nearest(name, &names), expected, "{name}");
        };
        check("copyng", Some("copying"));
        check("cue_reward", Some("cue-reward"));
        check("CueReward", Some("cue-reward"));
        check("cue", Some("cue-reward"));
        check("regresion", Some("regression"));
        check("omniglot", None);
        check("", None);
    }
}
