//! How instruction-tuned models want their prompts written.

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Says how the assistant is.
    System,
    /// Asks.
    User,
    /// Answers.
    Assistant,
}

/// One utterance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Whose it is.
    pub role: Role,
    /// What is said.
    pub text: &'a str,
}

/// A way to write a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatTemplate {
    /// ChatML as SmolLM2-Instruct has it, with its default system message.
    SmolLm2,
    /// `vicuna_v1`, which LLaVA-1.5 speaks too.
    VicunaV1,
}

const SMOLLM2_SYSTEM: &str = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
const VICUNA_SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. The assistant gives \
                             helpful, detailed, and polite answers to the user's questions.";

impl ChatTemplate {
    /// The conversation up to where the assistant speaks next. Where it does not begin with a system message, the
    /// template's own stands there.
    pub fn prompt(self, messages: &[Message<'_>]) -> String {
        let own = match messages.first() {
            Some(Message { role: Role::System, .. }) => None,
            _ => Some(Message { role: Role::System, text: self.system() }),
        };
        let mut prompt: String = own.iter().chain(messages).map(|message| self.utterance(message)).collect();
        prompt.push_str(match self {
            Self::SmolLm2 => "<|im_start|>assistant\n",
            Self::VicunaV1 => "ASSISTANT:",
        });
        prompt
    }

    /// What ends an answer; its first token is where decoding stops.
    pub fn end(self) -> &'static str {
        match self {
            Self::SmolLm2 => "<|im_end|>",
            Self::VicunaV1 => "</s>",
        }
    }

    fn system(self) -> &'static str {
        match self {
            Self::SmolLm2 => SMOLLM2_SYSTEM,
            Self::VicunaV1 => VICUNA_SYSTEM,
        }
    }

    fn utterance(self, message: &Message<'_>) -> String {
        let text = message.text;
        match (self, message.role) {
            (Self::SmolLm2, Role::System) => format!("<|im_start|>system\n{text}<|im_end|>\n"),
            (Self::SmolLm2, Role::User) => format!("<|im_start|>user\n{text}<|im_end|>\n"),
            (Self::SmolLm2, Role::Assistant) => format!("<|im_start|>assistant\n{text}<|im_end|>\n"),
            (Self::VicunaV1, Role::System) => format!("{text} "),
            (Self::VicunaV1, Role::User) => format!("USER: {text} "),
            (Self::VicunaV1, Role::Assistant) => format!("ASSISTANT: {text}</s>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TALK: [Message<'_>; 3] = [
        Message { role: Role::User, text: "Hi" },
        Message { role: Role::Assistant, text: "Hello!" },
        Message { role: Role::User, text: "Bye" },
    ];

    #[test]
    fn conversations_are_written_as_the_models_learnt_them() {
        let smol = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
                    <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye\
                    <|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(ChatTemplate::SmolLm2.prompt(&TALK), smol);
        let vicuna = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, \
                      detailed, and polite answers to the user's questions. USER: Hi ASSISTANT: Hello!</s>USER: Bye \
                      ASSISTANT:";
        assert_eq!(ChatTemplate::VicunaV1.prompt(&TALK), vicuna);
        let own = [Message { role: Role::System, text: "Be brief." }, TALK[0].clone()];
        assert_eq!(ChatTemplate::VicunaV1.prompt(&own), "Be brief. USER: Hi ASSISTANT:");
    }
}
