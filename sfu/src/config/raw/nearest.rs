//! The key an operator may have meant: the nearest one by edit distance.

/// Characters compared at most; a longer name is not a typing error.
const MOST_COMPARED: usize = 80;

/// The candidate nearest to `unknown`, if near enough to be what was meant. A known last part
/// under a wrong section is near; dots and underscores count as the same.
pub fn nearest<'a>(unknown: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if unknown.chars().count() > MOST_COMPARED {
        return None;
    }
    let wanted = normal(unknown);
    let tail = last(unknown);
    let tolerance = (wanted.len() / 4).max(2);
    candidates
        .map(|candidate| {
            let score = distance(&wanted, &normal(candidate));
            let relocated = last(candidate) == tail && tail.len() > 3;
            (
                if relocated { score.min(1) } else { score },
                score,
                candidate,
            )
        })
        .filter(|(score, ..)| *score <= tolerance)
        .min_by_key(|(score, exact, _)| (*score, *exact))
        .map(|(.., candidate)| candidate)
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn normal(path: &str) -> Vec<char> {
    path.chars()
        .map(|c| {
            if c == '.' || c == '-' {
                '_'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

/// Edits that turn `a` into `b`: insertions, deletions, replacements, each counting one, and
/// swaps of two neighbours, also counting one.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row[j] = best;
        }
        before = above;
        above = row;
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
        nearest(unknown, known.iter().copied())
    }

    #[test]
    fn a_typing_error_finds_its_key() {
        let known = ["rtc.udp_port", "rtc.tcp_port", "port"];
        assert_eq!(of("rtc.upd_port", &known), Some("rtc.udp_port"));
        assert_eq!(of("rtc.tcp_prt", &known), Some("rtc.tcp_port"));
        assert_eq!(of("weather", &known), None);
    }

    #[test]
    fn a_key_under_the_wrong_section_finds_its_place() {
        let known = ["rtc.use_external_ip", "debug_handler.port"];
        assert_eq!(of("use_external_ip", &known), Some("rtc.use_external_ip"));
        assert_eq!(of("debug_handler_port", &known), Some("debug_handler.port"));
    }

    #[test]
    fn a_swap_of_two_letters_is_one_edit() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(distance(&chars("udp"), &chars("upd")), 1);
        assert_eq!(distance(&chars(""), &chars("abc")), 3);
        assert_eq!(distance(&chars("kitten"), &chars("sitting")), 3);
    }
}
