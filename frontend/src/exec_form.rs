//! A command as the build file has it -> what is wrong with how it is written, if nobody can mean that.

use minimage::explain::{Explanation, Spelling};
use minimage::roots::{Keep, Origin, Root};

use crate::instructions::split;
use crate::request::Finding;

/// The quotes that people type, or that their editors make of them.
const QUOTES: [char; 7] = ['"', '\'', '`', '“', '”', '‘', '’'];

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

/// Returns what to say of the command that `words` are, of the instruction `keyword` in the lines `lines` of `file`, if it
/// stands in brackets but is no JSON: the stock frontend has a shell run it then, brackets and all.
pub(crate) fn not_json(keyword: &str, words: &[&str], lines: (i32, i32), file: &str) -> Option<Finding> {
    let command = words.get(1..)?.last()?.trim();
    let first = command.strip_prefix('[')?.trim_start();
    if lines.0 == 0 || !first.starts_with(QUOTES) {
        return None;
    }
    let words: Vec<String> = items(command).iter().map(|word| serde_json::json!(word).to_string()).collect();
    let what = format!("`{command}` is no list, so that a shell would look for a program of this name");
    let explanation = Explanation::new("exec-form", what)
        .at(format!("`{keyword}` ({file}:{})", lines.0))
        .why("in brackets, words have double quotes around them and commas between them")
        .fix(format!("write `{keyword} [{}]`", words.join(", ")));
    Some(Finding { lines, text: explanation.spelled(Spelling::Labels) })
}

/// Returns the words of a list, whatever is between them and around them.
fn items(list: &str) -> Vec<String> {
    let mut items = Vec::new();
    let mut word = String::new();
    let mut is_quoted = false;
    for letter in list.trim_start_matches('[').trim_end_matches(']').chars() {
        match letter {
            letter if QUOTES.contains(&letter) => {
                is_quoted = !is_quoted;
                if !is_quoted {
                    items.push(std::mem::take(&mut word));
                }
            }
            letter if is_quoted => word.push(letter),
            _ => {}
        }
    }
    items.extend(Some(word).filter(|word| !word.is_empty()));
    items
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
    fn a_list_that_is_none_is_told_as_it_was_meant() {
        let said = |words: &[&str]| not_json("CMD", words, (2, 3), "Dockerfile").map(|finding| finding.text);
        for (command, meant) in [
            ("['ls', '-l']", r#""ls", "-l""#),
            (r#"["-c" "print(1)"]"#, r#""-c", "print(1)""#),
            (r#"[ "a", "b",]"#, r#""a", "b""#),
            (r#"["a", "b c""#, r#""a", "b c""#),
            ("[“a”, “b\\”]", r#""a", "b\\""#),
        ] {
            let expected = format!(
                "error[exec-form]: `{command}` is no list, so that a shell would look for a program of this name\n  \
                    where: `CMD` (Dockerfile:2)\n    \
                    why: in brackets, words have double quotes around them and commas between them\n    \
                    fix: write `CMD [{meant}]`"
            );
            assert_eq!(said(&["/bin/sh", "-c", command]), Some(expected));
        }
        for words in [&["/bin/sh", "-c", "[ -e /x ] && y"][..], &["['a']"], &["sh", "-c", "a ['b']"], &[]] {
            assert_eq!(said(words), None);
        }
        // That of another image.
        assert_eq!(not_json("CMD", &["/bin/sh", "-c", "['a']"], (0, 0), "Dockerfile"), None);
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
