//! What is wrong, or worth knowing + the build file -> messages that show the lines they are about.

use minimage::explain::{Choice, Explain, Explanation, Spelling};

use crate::gateway::base64;
use crate::proto::{Any, Position, Range, SourceInfo, Status};
use crate::request::Finding;
use crate::settings::Given;

/// `INVALID_ARGUMENT` of gRPC: asking again will not help.
const INVALID_ARGUMENT: i32 = 3;
/// The kind of detail from which clients show lines of the build file.
const SOURCE: &str = "github.com/moby/buildkit/errdefs.Source+json";

/// Whose words explanations are about.
pub(crate) struct Said<'a> {
    /// What is said of options, in whatever way.
    pub(crate) given: Vec<Given>,
    /// How their reader would write options.
    pub(crate) spelling: Spelling,
    /// The build file's name.
    pub(crate) file: &'a str,
}

impl Said<'_> {
    /// Returns what to say of `explanation`: at the lines of the option that it is about, else at `lines`.
    pub(crate) fn finding(&self, explanation: Explanation, lines: (i32, i32)) -> Finding {
        match explanation.about.as_ref().and_then(|choice| self.giver(choice)) {
            Some(given) => self.finding_about(explanation, given),
            None => Finding {
                lines,
                text: explanation.spelled_by(&|choice| self.spelling(choice, self.spelling)),
            },
        }
    }

    /// Returns what to say of `explanation`, which is about what is `given`.
    pub(crate) fn finding_about(&self, mut explanation: Explanation, given: &Given) -> Finding {
        explanation.about = None;
        explanation.places.insert(0, given.place(self.file));
        let own = given.spelling().unwrap_or(self.spelling);
        Finding { lines: given.lines, text: explanation.spelled_by(&|choice| self.spelling(choice, own)) }
    }

    /// Returns what to say of `error`, each of its explanations at the lines of the option that it is about, else at
    /// `lines`.
    pub(crate) fn findings(&self, error: &dyn Explain, lines: (i32, i32)) -> Vec<Finding> {
        error.explain().into_iter().map(|explanation| self.finding(explanation, lines)).collect()
    }

    /// Returns `choice` as whoever made it wrote it.
    pub(crate) fn shown(&self, choice: &Choice) -> String {
        self.giver(choice).map_or_else(|| self.spelling.of(choice), |given| given.text.clone())
    }

    /// Returns who makes `choice`: the last one counts.
    fn giver(&self, choice: &Choice) -> Option<&Given> {
        self.given.iter().rfind(|given| given.is(choice))
    }

    /// Returns how `choice` is spelled where it is made, or else the spelling `other`.
    fn spelling(&self, choice: &Choice, other: Spelling) -> Spelling {
        self.giver(choice).and_then(Given::spelling).unwrap_or(other)
    }
}

/// Returns the error that says all of `problems`, and shows the lines that they are about.
pub(crate) fn status(problems: &[Finding], file: Option<&SourceInfo>) -> Status {
    let texts = texts(problems);
    let mut lines: Vec<(i32, i32)> =
        problems.iter().map(|problem| problem.lines).filter(|lines| lines.0 > 0).collect();
    lines.sort_unstable();
    lines.dedup();
    // Without any, too: where nobody says which lines to show, daemons show the first.
    let detail = file.map(|file| source(&lines, file));
    Status { code: INVALID_ARGUMENT, message: texts.join("\n"), details: detail.into_iter().collect() }
}

/// Returns what `findings` say, each once: several lines can be to blame for one thing.
pub(crate) fn texts(findings: &[Finding]) -> Vec<&str> {
    let mut texts: Vec<&str> = Vec::new();
    for Finding { text, .. } in findings {
        if !texts.contains(&text.as_str()) {
            texts.push(text);
        }
    }
    texts
}

/// Returns `status` with the lines `lines` of `file` shown, whatever lines it has shown.
pub(crate) fn moved(mut status: Status, lines: (i32, i32), file: &SourceInfo) -> Status {
    status.details.retain(|detail| detail.type_url != SOURCE);
    status.details.push(source(&[lines], file));
    status
}

/// Returns the detail of an error that shows `lines` of `file`.
fn source(lines: &[(i32, i32)], file: &SourceInfo) -> Any {
    let ranges: Vec<_> = lines
        .iter()
        .map(|(first, last)| serde_json::json!({"start": {"line": first}, "end": {"line": last}}))
        .collect();
    let info = serde_json::json!({
        "filename": file.filename,
        "data": base64(&file.data),
        "language": file.language,
    });
    let value = serde_json::json!({ "info": info, "ranges": ranges });
    Any { type_url: SOURCE.to_owned(), value: value.to_string().into_bytes() }
}

/// Returns the first and the last line of `ranges`; zeros if there are none.
pub(crate) fn lines(ranges: &[Range]) -> (i32, i32) {
    let line = |position: &Option<Position>| position.as_ref().map_or(0, |position| position.line);
    let first = ranges.iter().map(|range| line(&range.start)).min().unwrap_or(0);
    let last = ranges.iter().map(|range| line(&range.end)).max().unwrap_or(0);
    (first, last.max(first))
}

/// Returns the range of the lines `first` to `last`, unless they are not known.
pub(crate) fn range((first, last): (i32, i32)) -> Option<Range> {
    let position = |line| Some(Position { line, character: 0 });
    (first > 0).then(|| Range { start: position(first), end: position(last) })
}

#[cfg(test)]
mod tests {
    use minimage::explain::Fix;

    use super::*;
    use crate::settings::Written;

    fn finding(line: i32, text: &str) -> Finding {
        Finding { lines: (line, line), text: text.to_owned() }
    }

    /// Returns the lines that `status` shows.
    fn shown(status: &Status) -> Vec<(i64, i64)> {
        let [detail] = status.details.as_slice() else { return Vec::new() };
        let value: serde_json::Value = serde_json::from_slice(&detail.value).unwrap();
        assert_eq!(value["info"]["data"], base64(b"a\nb\n"));
        let line = |range: &serde_json::Value, end: &str| range[end]["line"].as_i64().unwrap();
        let ranges = value["ranges"].as_array().unwrap().iter();
        ranges.map(|range| (line(range, "start"), line(range, "end"))).collect()
    }

    #[test]
    fn options_are_told_as_they_were_given() {
        let given = |name: &str, value: &str, place, text: &str| {
            let [name, value, text] = [name, value, text].map(str::to_owned);
            Given { name, value, place, text, lines: (0, 0) }
        };
        let said = Said {
            given: vec![
                given("with", "nss,locale", Written::Argument, "--build-arg MINIMAGE_WITH=nss,locale"),
                given("without", "nss", Written::Syntax, "# syntax=minimage --without=nss"),
            ],
            spelling: Spelling::Labels,
            file: "Dockerfile",
        };
        let (with, without) = (Choice::new("with", "nss"), Choice::new("without", "nss"));
        let both = Fix::from("say either ").choice(with.clone()).text(" or ").choice(without);
        let explanation = Explanation::new("usage", "both").about(with.clone()).fix(both);
        let expected = "error[usage]: both\n  where: `--build-arg MINIMAGE_WITH=nss,locale`\n    \
            fix: say either `--build-arg MINIMAGE_WITH=nss` or `--without=nss`";
        assert_eq!(said.finding(explanation, (3, 3)), Finding { lines: (0, 0), text: expected.to_owned() });
        // What corrects an option goes where that is, and what is new into a label.
        let fix = |choice| Fix::from("write ").choice(choice);
        let explanation = Explanation::new("usage", "no value").about(Choice::new("with", "locale"));
        let explanation = explanation.fix(fix(Choice::new("with", "locale=NAME")));
        let expected = "error[usage]: no value\n  where: `--build-arg MINIMAGE_WITH=nss,locale`\n    \
            fix: write `--build-arg MINIMAGE_WITH=locale=NAME`";
        assert_eq!(said.finding(explanation, (3, 3)).text, expected);
        let explanation = Explanation::new("empty", "x").fix(fix(Choice::new("allow-missing", "x")));
        let expected = "error[empty]: x\n    fix: write `LABEL minimage.allow-missing=x`";
        assert_eq!(said.finding(explanation, (3, 3)), finding(3, expected));
        assert_eq!(said.shown(&with), "--build-arg MINIMAGE_WITH=nss,locale");
    }

    #[test]
    fn an_error_shows_each_line_once() {
        let file = SourceInfo { data: b"a\nb\n".to_vec(), ..SourceInfo::default() };
        let problems = [finding(2, "one"), finding(1, "two"), finding(0, "three"), finding(2, "four")];
        let found = status(&problems, Some(&file));
        assert_eq!(found.message, "one\ntwo\nthree\nfour");
        assert_eq!(shown(&found), [(1, 1), (2, 2)]);
        assert_eq!(shown(&moved(found, (1, 2), &file)), [(1, 2)]);
        let nowhere = status(&[finding(0, "nowhere")], Some(&file));
        assert_eq!((nowhere.details.len(), shown(&nowhere)), (1, vec![]));
        assert!(status(&[finding(1, "nowhere")], None).details.is_empty());
        assert_eq!(range((0, 0)), None);
        assert_eq!(lines(&[range((2, 3)).unwrap(), range((1, 1)).unwrap()]), (1, 3));
    }
}
