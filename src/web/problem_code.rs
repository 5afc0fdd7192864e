//! The closed list of kinds of problems. Each has its status, its title, and what its page says of it.

use http::StatusCode;

macro_rules! problem_codes {
    ($($variant:ident = $status:ident, $code:literal, $title:literal {
        example: $example:literal,
        cause: $cause:literal,
        remedy: $remedy:literal,
    })+) => {
        /// All kinds of problems. They are part of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ProblemCode { $(#[doc = $title] $variant,)+ }

        impl ProblemCode {
            /// All kinds, ordered by status.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the HTTP status of the response.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }

            /// Returns the last segment of the problem's `type`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// Returns the problem's `type`, a URI reference that never changes. Its page explains the problem.
            #[must_use]
            pub fn type_uri(self) -> &'static str {
                match self { $(Self::$variant => concat!("/problems/", $code),)+ }
            }

            /// Returns the problem's `title`, which is the same text each time.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// Returns a `detail` as one request gets it, for examples.
            #[must_use]
            pub fn example(self) -> &'static str {
                match self { $(Self::$variant => $example,)+ }
            }

            /// Returns when the relay answers so. Code is between backticks.
            #[must_use]
            pub fn cause(self) -> &'static str {
                match self { $(Self::$variant => $cause,)+ }
            }

            /// Returns what a developer or an operator can do about it. Code is between backticks.
            #[must_use]
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)+ }
            }
        }
    };
}

problem_codes! {
    BadRequest = BAD_REQUEST, "bad-request", "The request cannot be read" {
        example: "The request has more than one `Host`.",
        cause: "The head of the request is ambiguous, or its body did not arrive whole. A proxy in between may have \
            changed it.",
        remedy: "Read `detail`, and send the request again. If it fails again, send it without the proxy.",
    }
    NotJson = BAD_REQUEST, "not-json", "The body is not JSON" {
        example: "The body: EOF while parsing an object at line 1 column 12.",
        cause: "The body is empty or is not valid JSON. `detail` names the place of the first error.",
        remedy: "Let a JSON library write the body. In a shell, put single quotes around the whole body.",
    }
    Unauthorized = UNAUTHORIZED, "unauthorized", "A valid key is needed" {
        example: "Send `Authorization: Bearer <key>` with a valid key.",
        cause: "The request has no key or a wrong one. The key of a client stops working when the client gets a new \
            key or is revoked. Calls under `/admin` take an admin token instead. A stream's address expires. A webhook \
            of Basiq's must be signed.",
        remedy: "Send `Authorization: Bearer brk_…` with the API key. The signing secret, `whsec_…`, is not the key. \
            For a stream, read the watch again and take its new `streamUrl`.",
    }
    NotFound = NOT_FOUND, "not-found", "There is nothing here" {
        example: "There is no such watch.",
        cause: "No call has this path, or this client has nothing with this id. What belongs to another client is not \
            found either. Calls under `/admin` exist only if the settings have an admin token.",
        remedy: "Compare the path with `/docs`; it has no slash at its end. Check that the id is whole, and that the key \
            is that of the client that made it.",
    }
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method-not-allowed", "This method is not allowed here" {
        example: "The `Allow` header tells the methods this path has.",
        cause: "The path exists, but not with this method. A client that follows a redirect may turn a `POST` into a \
            `GET`.",
        remedy: "Use a method that the `Allow` header of the answer names. Send the request to the final address.",
    }
    NothingToRedeliver = CONFLICT, "nothing-to-redeliver", "The watch has no event yet" {
        example: "Nothing was told yet, so there is nothing to deliver once more.",
        cause: "The watch has not sent an event. Its job still runs, or ended in a way that `events` of the watch leaves \
            out.",
        remedy: "Read the watch: `state` and `nextPollAt` say what happens next. The first event is sent by itself.",
    }
    NewerEvent = CONFLICT, "newer-event", "The watch has a newer event" {
        example: "The latest event of its watch is evt_01KAR2D3CV000G0V4Y8Q2M5T7R; deliver that one.",
        cause: "A later event of the same watch replaced this one. Sending the old one again would tell an outdated \
            state.",
        remedy: "Redeliver the event that `detail` names, or the watch, which sends its latest event.",
    }
    NameTaken = CONFLICT, "name-taken", "The name is taken" {
        example: "There is or was a client `app`; choose another name.",
        cause: "A client with this name exists or existed. The name of a revoked client is not used again.",
        remedy: "Choose another name. To replace the key of the existing client, rotate its key.",
    }
    WatchCancelled = CONFLICT, "watch-cancelled", "The watch is cancelled" {
        example: "Nothing is posted for a cancelled watch, nor for a revoked client.",
        cause: "The watch was cancelled, its subscription ended, or its client was revoked. Nothing is posted for it any \
            more.",
        remedy: "Register a new watch of the job with `POST /watch`.",
    }
    NoOpenChallenge = CONFLICT, "no-open-challenge", "No challenge is open" {
        example: "The job asks nothing now, or the watch has ended.",
        cause: "The bank asks nothing at the moment. The challenge may be answered already or have expired.",
        remedy: "Read the watch. Answer only while its `state` is `awaiting-user`. After an expired challenge, the \
            person starts again.",
    }
    BeingAnswered = CONFLICT, "being-answered", "The challenge is being answered" {
        example: "An answer to this challenge is on its way or was just taken; wait for the next event.",
        cause: "Another request sent an answer a moment ago, for example after a double click.",
        remedy: "Do not send the answer again. Wait for the next event, or follow the watch.",
    }
    UserUnknown = CONFLICT, "user-unknown", "Nobody knows whose job it is" {
        example: "Basiq does not tell whose job this is; send the answer to `challenge.respondTo`.",
        cause: "Basiq takes an answer only for a person, and the job's document names none.",
        remedy: "Send the answer to Basiq yourself, at the address in `challenge.respondTo` of the event.",
    }
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large" {
        example: "A body has at most 16384 bytes.",
        cause: "The body has more bytes than this call reads. `detail` has the limit.",
        remedy: "Shorten `metadata`, or split a batch into several calls.",
    }
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body must be application/json" {
        example: "Send the body with `Content-Type: application/json`.",
        cause: "The request has no `Content-Type`, or another one. `curl -d` alone sends the type of a form.",
        remedy: "Add the header `Content-Type: application/json`.",
    }
    NotAnObject = UNPROCESSABLE_ENTITY, "not-an-object", "The body must be a JSON object" {
        example: "The body is [1].",
        cause: "The body is valid JSON, but a list, a text, a number or `null`. It may have been encoded twice.",
        remedy: "Send an object, `{…}`. For many jobs at once, use `POST /watch/batch`.",
    }
    InvalidField = UNPROCESSABLE_ENTITY, "invalid-field", "The body has invalid fields" {
        example: "1 fault was found; see `errors`.",
        cause: "One or more fields are missing, unknown, given twice, or have a value that is not allowed.",
        remedy: "Read `errors`: it lists every fault at once. `pointer` names the field, and `message` says what is \
            allowed. Nothing was changed.",
    }
    InvalidParameter = UNPROCESSABLE_ENTITY, "invalid-parameter", "The query has invalid parameters" {
        example: "1 fault was found; see `errors`.",
        cause: "A parameter in the address is unknown, given twice, or has a value that is not allowed.",
        remedy: "Read `errors`: it lists every fault at once. Take a `cursor` unchanged from the `nextCursor` of the \
            same list.",
    }
    MfaRefused = UNPROCESSABLE_ENTITY, "mfa-refused", "Basiq refused the answer" {
        example: "It was wrong or too late; the next event tells what becomes of the job.",
        cause: "Basiq did not accept the answer to the challenge: it was wrong, or the challenge had expired. \
            `basiqCode` is Basiq's reason.",
        remedy: "Wait for the next event. It has a new challenge, or says that the person must start again.",
    }
    TooManyRequests = TOO_MANY_REQUESTS, "too-many-requests", "The client asks too often" {
        example: "At most 500 requests a second.",
        cause: "The client sent more requests than its limit, `RELAY_CLIENT_RPS`. Tests of callbacks have a limit of \
            their own.",
        remedy: "Wait as many seconds as `Retry-After` says. Register many jobs with one `POST /watch/batch`, and wait \
            for events instead of reading watches in a loop.",
    }
    TooManyStreams = TOO_MANY_REQUESTS, "too-many-streams", "Too many follow the watch" {
        example: "At most 1024 may follow one watch.",
        cause: "As many streams and waiting calls follow this watch as one watch may have. Pages that were left open \
            count too.",
        remedy: "Close streams that nobody needs. Read the watch without `wait` until one is free.",
    }
    TooManyOpenWatches = TOO_MANY_REQUESTS, "too-many-open-watches", "The client has too many open watches" {
        example: "At most 100000 watches may be open; wait until some settle, or cancel.",
        cause: "The client has as many open watches as `RELAY_CLIENT_MAX_OPEN_WATCHES` allows.",
        remedy: "Send the request again later, or cancel watches that nobody needs. An operator can raise the limit.",
    }
    TooManySubscriptions = TOO_MANY_REQUESTS, "too-many-subscriptions", "The client has too many subscriptions" {
        example: "At most 100000 subscriptions may be active; end some.",
        cause: "The client has as many active subscriptions as `RELAY_CLIENT_MAX_OPEN_WATCHES` allows.",
        remedy: "End subscriptions that nobody needs. An operator can raise the limit.",
    }
    InternalError = INTERNAL_SERVER_ERROR, "internal-error", "The relay made an error" {
        example: "The relay could not answer; its log says why under this answer's request id.",
        cause: "The relay met something that it did not expect. It may have done what was asked, or not.",
        remedy: "Read what the call should have changed before you send it again. An operator finds the cause in the \
            log, by the `x-request-id` of the answer.",
    }
    UpstreamFailed = BAD_GATEWAY, "upstream-failed", "Basiq did not do what was asked" {
        example: "The answer may have been taken or not; read the watch before it is sent again.",
        cause: "Basiq gave an answer that the relay cannot use, or none after the request was sent. `detail` says \
            whether the answer to the challenge was taken.",
        remedy: "Read the watch first. Send the answer again only while its challenge is still open.",
    }
    StoreUnavailable = SERVICE_UNAVAILABLE, "store-unavailable", "The store cannot be reached" {
        example: "Nothing was changed; ask again shortly.",
        cause: "The relay's database does not answer, does not take writes, or is damaged.",
        remedy: "Send the request again after `Retry-After`. Operators look at `/readyz` and the log: \"the relay cannot \
            answer now\".",
    }
    UpstreamUnavailable = SERVICE_UNAVAILABLE, "upstream-unavailable", "Basiq cannot be asked now" {
        example: "The answer was not taken and may be sent again.",
        cause: "Basiq does not answer, asks for fewer calls, or refuses the relay's key. The answer to the challenge was \
            not taken.",
        remedy: "Send the same answer again after `Retry-After`. Operators see in `/readyz` what is wrong with Basiq.",
    }
    TimedOut = SERVICE_UNAVAILABLE, "timed-out", "The answer took too long" {
        example: "The relay is busy; what was asked may have been done. Ask again shortly.",
        cause: "The relay could not answer within ten seconds, usually because its database is slow.",
        remedy: "Send the request again after `Retry-After`. `POST /watch` can be repeated safely: it answers with the \
            existing watch.",
    }
    Overloaded = SERVICE_UNAVAILABLE, "overloaded", "The relay has too much to do" {
        example: "Nothing was done. Ask again shortly.",
        cause: "The relay handles as many requests, batches or streams at once as it can hold.",
        remedy: "Send the request again after `Retry-After`. More relays on one PostgreSQL database take more requests.",
    }
    NotReady = SERVICE_UNAVAILABLE, "not-ready", "The relay is not ready" {
        example: "The store is unreachable; the log says why.",
        cause: "The relay cannot use its database now, so load balancers send requests to other relays. A balancer \
            answers so too when no relay is ready.",
        remedy: "Send the request again after `Retry-After`. Operators read `store` in the answer, and the log.",
    }
}

impl ProblemCode {
    /// Returns the kind with this last segment of its `type`, if one exists.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == word)
    }

    /// Returns whether the response says when to ask again, in its `Retry-After` header.
    #[must_use]
    pub fn tells_when_to_return(self) -> bool {
        matches!(self.status().as_u16(), 429 | 503)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_its_own_word_title_and_an_error_status() {
        let words: BTreeSet<_> = ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
        let titles: BTreeSet<_> = ProblemCode::ALL.iter().map(|code| code.title()).collect();
        assert_eq!(words.len(), ProblemCode::ALL.len());
        assert_eq!(titles.len(), ProblemCode::ALL.len());
        for code in ProblemCode::ALL {
            let status = code.status();
            assert!(status.is_client_error() || status.is_server_error());
            assert_eq!(ProblemCode::from_word(code.as_str()), Some(*code));
            assert_eq!(code.type_uri(), format!("/problems/{}", code.as_str()));
        }
    }

    #[test]
    fn every_kind_says_its_cause_and_a_remedy_in_whole_short_sentences() {
        for code in ProblemCode::ALL {
            for text in [code.example(), code.cause(), code.remedy()] {
                let place = format!("{}: {text}", code.as_str());
                assert!(text.ends_with('.'), "{place}");
                assert!(text.starts_with(char::is_alphanumeric), "{place}");
                assert_eq!(text.matches('`').count() % 2, 0, "{place}");
                let sentences = text.split(". ");
                let longest = sentences.map(|one| one.split_whitespace().count()).max();
                assert!(longest <= Some(25), "{place}");
            }
        }
        let causes: BTreeSet<_> = ProblemCode::ALL.iter().map(|code| code.cause()).collect();
        assert_eq!(causes.len(), ProblemCode::ALL.len());
    }
}
