//! A command whose program is not there -> what is wrong with how it is written, if that is why.

use minimage::explain::Explanation;
use minimage::roots::{Keep, Origin, Root};

use crate::instructions::split;

/// Returns what to say of the program of `root`, if nobody can mean that by a command in brackets; `variables` are the
/// names of those of the image.
pub(crate) fn slip(root: &Root, variables: &[String]) -> Option<Explanation> {
    let Keep::Program { name, .. } = &root.keep else { return None };
    let name = name.to_string();
    let text = match &root.origin {
        Origin::Line { text, .. } | Origin::Argument(text) => text.as_str(),
        Origin::Choice(_) => "",
    };
    let command = Command::read(text, &name);
    let explanation = |what: String| Explanation::new("exec-form", what).at(root.origin.to_string());
    let first = command.words.first().map_or("", |word| word.as_str());
    if first.trim().is_empty() {
        let explanation = explanation("the name of the program is empty".to_owned());
        let start = command.start;
        let none = match start.split_whitespace().next() {
            Some(keyword) if keyword.eq_ignore_ascii_case("HEALTHCHECK") => format!("{keyword} NONE"),
            _ => format!("{start} []"),
        };
        let fix = format!("write `{start} [\"PROGRAM\", \"ARGUMENT\"]`, or `{none}` for none");
        return Some(explanation.fix(fix));
    }
    if let Some(variable) = variable(first) {
        let explanation =
            explanation(format!("`{first}` stays as it is: in brackets, no shell puts in variables"));
        let direct = explanation.fix(format!("write what `{variable}` stands for"));
        return Some(match variables.iter().any(|known| known == variable) {
            true => direct.fix(format!(
                "or have a shell put it in: `{} exec {}`",
                command.start,
                command.words.join(" ")
            )),
            false => {
                direct.why(format!("the image has no variable `{variable}`; an `ARG` is for the build only"))
            }
        });
    }
    first.contains(char::is_whitespace).then(|| {
        let what =
            format!("`{first}` is the name of one program: in brackets, each word has quotes of its own");
        explanation(what).fix(format!("write `{}`", command.split()))
    })
}

/// A command in brackets.
struct Command<'a> {
    /// What stands before the brackets; nothing, if they are not known.
    start: &'a str,
    words: Vec<String>,
}

impl<'a> Command<'a> {
    /// Returns the command that `text` says; if that is not all of it, the beginning, which is `name`.
    fn read(text: &'a str, name: &str) -> Self {
        let brackets = text.find('[').map(|at| text.split_at(at));
        let whole = brackets.and_then(|(start, words)| {
            let words: Vec<String> = serde_json::from_str(words).ok()?;
            (!words.is_empty()).then_some(Self { start: start.trim_end(), words })
        });
        let keyword = text.split_whitespace().next().unwrap_or_default();
        whole.unwrap_or_else(|| Self { start: keyword, words: vec![name.to_owned()] })
    }

    /// Returns the command with its first word taken apart.
    fn split(&self) -> String {
        let Self { start, words } = self;
        let first = words.first().map(|word| split(word)).unwrap_or_default();
        let words = first.iter().chain(words.iter().skip(1));
        let words: Vec<String> = words.map(|word| serde_json::json!(word).to_string()).collect();
        format!("{start} [{}]", words.join(", "))
    }
}

/// Returns the name of the first variable in `word`.
fn variable(word: &str) -> Option<&str> {
    let (_, after) = word.split_once('$')?;
    let after = after.strip_prefix('{').unwrap_or(after);
    let end = after.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let name = after.get(..end.unwrap_or(after.len()))?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, name: &str) -> Option<String> {
        let keep = Keep::Program { name: name.into(), to: None };
        let origin = Origin::Line { file: "Dockerfile".to_owned(), line: 3, text: text.to_owned() };
        slip(&Root { keep, origin }, &["BIN".to_owned()]).map(|explanation| explanation.to_string())
    }

    #[test]
    fn a_command_in_brackets_is_not_one_of_a_shell() {
        let words = "is the name of one program: in brackets, each word has quotes of its own";
        let variable = "stays as it is: in brackets, no shell puts in variables";
        let none = "\n    why: the image has no variable `X`; an `ARG` is for the build only";
        let empty = "the name of the program is empty";
        for (text, name, what, rest) in [
            (
                "CMD [\"jq -n 1\"]",
                "jq -n 1",
                format!("`jq -n 1` {words}"),
                "fix: write `CMD [\"jq\", \"-n\", \"1\"]`",
            ),
            (
                "ENTRYPOINT [ \"./a -c 'b \\\\ c'\" , \"d\" ]",
                "/w/a -c 'b \\ c'",
                format!("`./a -c 'b \\ c'` {words}"),
                "fix: write `ENTRYPOINT [\"./a\", \"-c\", \"b \\\\ c\", \"d\"]`",
            ),
            (
                "HEALTHCHECK --retries=1 CMD [\"true x\"]",
                "true x",
                format!("`true x` {words}"),
                "fix: write `HEALTHCHECK --retries=1 CMD [\"true\", \"x\"]`",
            ),
            // Of a command on several lines.
            ("CMD [\"a b\",", "a b", format!("`a b` {words}"), "fix: write `CMD [\"a\", \"b\"]`"),
            (
                "ENTRYPOINT [\"$BIN\", \"-x\"]",
                "$BIN",
                format!("`$BIN` {variable}"),
                "fix: write what `BIN` stands for\n    fix: or have a shell put it in: `ENTRYPOINT exec $BIN -x`",
            ),
            (
                "CMD [\"/a/${X} y\"]",
                "/a/${X} y",
                format!("`/a/${{X}} y` {variable}"),
                &format!("{none}\n    fix: write what `X` stands for"),
            ),
            (
                "CMD [\"\"]",
                "",
                empty.to_owned(),
                "fix: write `CMD [\"PROGRAM\", \"ARGUMENT\"]`, or `CMD []` for none",
            ),
            (
                "HEALTHCHECK CMD [\" \"]",
                " ",
                empty.to_owned(),
                "fix: write `HEALTHCHECK CMD [\"PROGRAM\", \"ARGUMENT\"]`, or `HEALTHCHECK NONE` for none",
            ),
        ] {
            let rest = rest.trim_start_matches(['\n', ' ']);
            let expected = format!("error[exec-form]: {what}\n  where: `{text}` (Dockerfile:3)\n    {rest}");
            assert_eq!(said(text, name).unwrap_or_default(), expected);
        }
        assert_eq!(said("CMD [\"jq\", \"-n 1\", \"$X\"]", "jq"), None);
        assert_eq!(said("CMD jq -n 1", "/bin/sh"), None);
    }
}
