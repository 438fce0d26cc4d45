//! Prompts with answers, for language models that are to follow instructions.

use super::error::DataError;
use super::place::Place;
use super::records::{Field, Record, read_records};
use crate::formats::files::At;
use crate::model::chat::{Message, Role};

/// What is said before the answer, and the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptExample {
    /// The conversation up to the answer; the user speaks in it.
    pub prompt: Vec<Turn>,
    /// What the assistant says to it, not blank.
    pub answer: String,
    /// Where its record begins.
    pub place: Place,
}

/// One utterance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Whose it is.
    pub role: Role,
    /// What is said.
    pub text: String,
}

impl Turn {
    /// The same, borrowed, as chat templates take it.
    pub fn message(&self) -> Message<'_> {
        Message { role: self.role, text: &self.text }
    }
}

/// The fields in which prompt and answer stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PromptFields {
    /// The first of these that a record has:
    ///
    /// | fields | prompt and answer |
    /// |---|---|
    /// | `prompt`, `answer` | both text |
    /// | `messages` | a list of `{"role": "system" \| "user" \| "assistant", "content": …}` that ends with the answer |
    /// | `conversations` | LLaVA's list of `{"from": "system" \| "human" \| "gpt", "value": …}` that ends with the answer |
    /// | `instruction`, `input`, `output` | Alpaca's: the input, if there is one, follows the instruction after a blank line |
    #[default]
    Known,
    /// Two fields of text.
    Named {
        /// That of the prompt.
        prompt: String,
        /// That of the answer.
        answer: String,
    },
}

/// How a list of utterances is written.
struct Style {
    role: &'static str,
    text: &'static str,
    roles: [(&'static str, Role); 3],
    expected: &'static str,
}

const MESSAGES: Style = Style {
    role: "role",
    text: "content",
    roles: [("system", Role::System), ("user", Role::User), ("assistant", Role::Assistant)],
    expected: "\"system\", \"user\" or \"assistant\"",
};
const CONVERSATIONS: Style = Style {
    role: "from",
    text: "value",
    roles: [("system", Role::System), ("human", Role::User), ("gpt", Role::Assistant)],
    expected: "\"system\", \"human\" or \"gpt\"",
};

/// Reads all examples of a file of records, in order; there is at least one.
pub fn read_prompts(file: impl Into<At>, fields: &PromptFields) -> Result<Vec<PromptExample>, DataError> {
    read_records(file)?.iter().map(|record| example(record, fields)).collect()
}

fn example(record: &Record, fields: &PromptFields) -> Result<PromptExample, DataError> {
    let (prompt, answer) = match fields {
        PromptFields::Named { prompt, answer } => pair(record, prompt, answer)?,
        PromptFields::Known => known(record)?,
    };
    Ok(PromptExample { prompt, answer, place: record.place() })
}

fn known(record: &Record) -> Result<(Vec<Turn>, String), DataError> {
    let has = |field| record.find(field).is_some();
    if has("prompt") && has("answer") {
        pair(record, "prompt", "answer")
    } else if let Some(field) = record.find("messages") {
        conversation(&field, &MESSAGES)
    } else if let Some(field) = record.find("conversations") {
        conversation(&field, &CONVERSATIONS)
    } else if has("instruction") {
        instruction(record)
    } else if has("prompt") || has("answer") {
        pair(record, "prompt", "answer")
    } else {
        Err(record.missing("`prompt`, `messages`, `conversations` or `instruction`".to_owned()))
    }
}

fn pair(record: &Record, prompt: &str, answer: &str) -> Result<(Vec<Turn>, String), DataError> {
    let (prompt, answer) = (record.value(prompt)?, record.value(answer)?);
    Ok((vec![Turn { role: Role::User, text: prompt.filled()?.to_owned() }], answer.filled()?.to_owned()))
}

fn instruction(record: &Record) -> Result<(Vec<Turn>, String), DataError> {
    let (mut prompt, answer) = pair(record, "instruction", "output")?;
    if let Some(input) = record.find("input") {
        let input = input.text()?;
        if !input.trim().is_empty() {
            prompt[0].text.push_str("\n\n");
            prompt[0].text.push_str(input);
        }
    }
    Ok((prompt, answer))
}

fn conversation(field: &Field<'_>, style: &Style) -> Result<(Vec<Turn>, String), DataError> {
    let turns: Vec<(Field<'_>, Turn)> = field
        .list()?
        .into_iter()
        .map(|item| Ok((item.clone(), turn(&item, style)?)))
        .collect::<Result<_, DataError>>()?;
    let fault =
        |at: &Field<'_>, what: String| DataError::Conversation { place: at.place(), field: at.name().to_owned(), what };
    let [system, user, assistant] = style.roles.map(|(name, _)| name);
    let Some(((last, answer), before)) = turns.split_last() else {
        return Err(fault(field, "nothing is said in it".to_owned()));
    };
    if answer.role != Role::Assistant {
        return Err(fault(last, format!("the last one must be the answer, of \"{assistant}\"")));
    }
    if let Some((late, _)) = before.iter().skip(1).find(|(_, turn)| turn.role == Role::System) {
        return Err(fault(late, format!("only the first one may be of \"{system}\"")));
    }
    if !before.iter().any(|(_, turn)| turn.role == Role::User) {
        return Err(fault(field, format!("nothing of \"{user}\" comes before the answer")));
    }
    let answer = answer.text.clone();
    Ok((before.iter().map(|(_, turn)| turn.clone()).collect(), answer))
}

fn turn(item: &Field<'_>, style: &Style) -> Result<Turn, DataError> {
    let (role, text) = (item.member(style.role)?, item.member(style.text)?);
    let named = role.text()?;
    let found = style.roles.iter().find(|(name, _)| *name == named);
    let role = found.ok_or_else(|| role.unfit(style.expected))?.1;
    // A system message may be empty: it says that the template's own is not wanted.
    let text = if role == Role::System { text.text()? } else { text.filled()? };
    Ok(Turn { role, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, fields: &PromptFields) -> Result<Vec<PromptExample>, String> {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("x.jsonl");
        std::fs::write(&file, text).unwrap();
        let folder = format!("{}{}", root.path().display(), std::path::MAIN_SEPARATOR);
        read_prompts(&file, fields).map_err(|error| error.to_string().replace(&folder, ""))
    }

    fn error(text: &str) -> String {
        read(text, &PromptFields::Known).unwrap_err()
    }

    #[test]
    fn every_known_form_reads_the_same() {
        for line in [
            r#"{"prompt": "Hi", "answer": "Hello!"}"#,
            r#"{"prompt": "Hi", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}"#,
            r#"{"id": 7, "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]}"#,
            r#"{"instruction": "Hi", "input": "", "output": "Hello!"}"#,
            r#"{"instruction": "Hi", "output": "Hello!"}"#,
        ] {
            let examples = read(&format!("\n{line}"), &PromptFields::Known).unwrap();
            assert_eq!(examples[0].prompt, [Turn { role: Role::User, text: "Hi".to_owned() }], "{line}");
            assert_eq!((&*examples[0].answer, examples[0].place.line), ("Hello!", Some(2)), "{line}");
        }
    }

    #[test]
    fn named_fields_are_the_only_ones_that_count() {
        let fields = PromptFields::Named { prompt: "q".to_owned(), answer: "a".to_owned() };
        let examples = read(r#"{"q": "Hi", "a": "Hello!", "messages": []}"#, &fields).unwrap();
        assert_eq!((&*examples[0].prompt[0].text, &*examples[0].answer), ("Hi", "Hello!"));
        assert_eq!(
            read(r#"{"prompt": "Hi", "answer": "b"}"#, &fields).unwrap_err(),
            "x.jsonl:1: no field `q`; there are `prompt`, `answer`"
        );
    }

    #[test]
    fn turns_before_the_answer_are_the_prompt() {
        let line = r#"{"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "1"},
            {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"},
            {"role": "assistant", "content": "4", "name": "x"}]}"#;
        let examples = read(&line.replace('\n', " "), &PromptFields::Known).unwrap();
        let turns: Vec<_> = examples[0].prompt.iter().map(|turn| (turn.message().role, turn.message().text)).collect();
        assert_eq!(turns, [(Role::System, ""), (Role::User, "1"), (Role::Assistant, "2"), (Role::User, "3")]);
        assert_eq!(examples[0].answer, "4");
        let alpaca = read(r#"{"instruction": "Add", "input": "1, 2", "output": "3"}"#, &PromptFields::Known).unwrap();
        assert_eq!(alpaca[0].prompt[0].text, "Add\n\n1, 2");
    }

    #[test]
    fn faults_are_told_by_their_place() {
        for (line, told) in [
            (r#"{"prompt": "Hi", "answer": " "}"#, "x.jsonl:1:28: `answer` is empty"),
            (r#"{"prompt": "", "answer": "b"}"#, "x.jsonl:1:12: `prompt` is empty"),
            (r#"{"prompt": "Hi"}"#, "x.jsonl:1: no field `answer`; there are `prompt`"),
            (r#"{"instruction": "Hi", "output": ""}"#, "x.jsonl:1:33: `output` is empty"),
            (
                r#"{"text": "Hi"}"#,
                "x.jsonl:1: no field `prompt`, `messages`, `conversations` or `instruction`; there are `text`",
            ),
            (r#"{"messages": "Hi"}"#, "x.jsonl:1:14: `messages` is the text \"Hi\", where a list is due"),
            (r#"{"messages": []}"#, "x.jsonl:1:14: `messages`: nothing is said in it"),
            (r#"{"messages": [7]}"#, "x.jsonl:1:15: `messages[0]` is the number 7, where an object is due"),
            (r#"{"messages": [{"content": "x"}]}"#, "x.jsonl:1:15: no field `messages[0].role`; there are `content`"),
            (
                r#"{"messages": [{"role": "bot", "content": "x"}]}"#,
                "x.jsonl:1:24: `messages[0].role` is the text \"bot\", where \"system\", \"user\" or \"assistant\" is due",
            ),
            (
                r#"{"messages": [{"role": "user", "content": "x"}]}"#,
                "x.jsonl:1:15: `messages[0]`: the last one must be the answer, of \"assistant\"",
            ),
            (
                r#"{"conversations": [{"from": "gpt", "value": "x"}]}"#,
                "x.jsonl:1:19: `conversations`: nothing of \"human\" comes before the answer",
            ),
            (
                r#"{"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": " "}]}"#,
                "x.jsonl:1:78: `conversations[1].value` is empty",
            ),
            (
                r#"{"messages": [{"role":"user","content":"x"},{"role":"system","content":"y"},{"role":"assistant","content":"z"}]}"#,
                "x.jsonl:1:45: `messages[1]`: only the first one may be of \"system\"",
            ),
        ] {
            assert_eq!(error(line), told, "{line}");
        }
    }
}
