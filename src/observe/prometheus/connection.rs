//! Address and credentials of a Prometheus.

use std::fmt;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::{QueryError, QueryErrorKind};
use crate::policy;
use crate::policy::{Auth, SecretKey};

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Takes the text; line ends behind it, which editors and shells leave in files, are cut off.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let text: String = text.into();
        Self(text.trim_end_matches(['\n', '\r']).to_owned())
    }

    fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Login {
    /// With a bearer token.
    Bearer(Secret),
    /// With user name and password.
    Basic {
        /// The user name.
        username: Secret,
        /// The password.
        password: Secret,
    },
}

/// All that is needed to ask a Prometheus. Clients of equal connections can be shared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Connection {
    /// Address of the server.
    pub url: String,
    /// Certificates (PEM) of the authority that signed the server's; `None`: the roots of the system.
    pub ca: Option<Vec<u8>>,
    /// How to log in.
    pub login: Option<Login>,
    /// Further headers. All of them count as secret.
    pub headers: Vec<(String, Secret)>,
    /// How long one query may take, retries included.
    pub timeout: Duration,
}

impl Connection {
    /// A server without credentials.
    #[must_use]
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            url: url.into().trim_end_matches('/').to_owned(),
            ca: None,
            login: None,
            headers: Vec::new(),
            timeout: Duration::from_secs(10),
        }
    }

    /// The keys of Secrets that `settings` refer to.
    #[must_use]
    pub fn secrets(settings: &policy::Prometheus) -> Vec<&SecretKey> {
        let login = match &settings.auth {
            None => vec![],
            Some(Auth::Bearer(token)) => vec![token],
            Some(Auth::Basic { username, password }) => vec![username, password],
        };
        let headers = settings.headers.iter().filter_map(|(_, value)| match value {
            policy::HeaderValue::Secret(key) => Some(key),
            policy::HeaderValue::Literal(_) => None,
        });
        settings.ca.iter().chain(login).chain(headers).collect()
    }

    /// The connection that `settings` describe; `secret` gives what a key of a Secret holds.
    ///
    /// # Errors
    /// If a Secret or a key in it is not there, or is no text.
    pub fn resolve(
        settings: &policy::Prometheus,
        mut secret: impl FnMut(&SecretKey) -> Option<Vec<u8>>,
    ) -> Result<Self, QueryError> {
        let problem = |key: &SecretKey, problem: &str| {
            let message = format!(
                "key `{}` of Secret `{}` {problem}; correct spec.prometheus or the Secret",
                key.key, key.secret
            );
            QueryError::configuration(&settings.url, &message)
        };
        let mut bytes = |key: &SecretKey| secret(key).ok_or_else(|| problem(key, "is not there"));
        let ca = settings.ca.as_ref().map(&mut bytes).transpose()?;
        let mut text = |key: &SecretKey| {
            let text = String::from_utf8(bytes(key)?).map_err(|_| problem(key, "is not text"))?;
            Ok(Secret::new(text))
        };
        let login = match &settings.auth {
            None => None,
            Some(Auth::Bearer(token)) => Some(Login::Bearer(text(token)?)),
            Some(Auth::Basic { username, password }) => {
                Some(Login::Basic { username: text(username)?, password: text(password)? })
            }
        };
        let headers = settings.headers.iter().map(|(name, value)| {
            let value = match value {
                policy::HeaderValue::Literal(value) => Secret::new(value),
                policy::HeaderValue::Secret(key) => text(key)?,
            };
            Ok((name.clone(), value))
        });
        Ok(Self {
            url: settings.url.clone(),
            ca,
            login,
            headers: headers.collect::<Result<_, _>>()?,
            timeout: settings.timeout.unsigned_abs(),
        })
    }

    /// An HTTP client that verifies the server, and follows no redirect: it would carry secrets to where nobody
    /// meant them to go.
    pub(super) fn http_client(&self) -> Result<reqwest::Client, QueryError> {
        let unusable = |problem: String| QueryError::configuration(&self.url, &problem);
        let builder = reqwest::Client::builder()
            .user_agent(concat!("milvus-autoscaler/", env!("CARGO_PKG_VERSION")))
            .default_headers(self.header_map()?)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.timeout)
            .timeout(self.timeout)
            .pool_max_idle_per_host(4);
        let builder = match &self.ca {
            Some(pem) => builder.tls_certs_only(certificates(pem).map_err(&unusable)?),
            // Without TLS no roots are needed, which small images do not have.
            None if !self.url.starts_with("https://") => builder.tls_certs_only([]),
            None => builder,
        };
        builder.build().map_err(|error| unusable(super::error::causes(&error)))
    }

    fn header_map(&self) -> Result<HeaderMap, QueryError> {
        let mut headers = HeaderMap::new();
        let mut insert = |name: &str, value: &str| {
            let problem = |what: &str| {
                let message =
                    format!("{what} `{name}` cannot be sent; correct spec.prometheus or its Secret");
                QueryError::configuration(&self.url, &message)
            };
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| problem("the header"))?;
            let mut value = HeaderValue::from_str(value).map_err(|_| problem("the value of header"))?;
            value.set_sensitive(true);
            headers.insert(key, value);
            Ok::<_, QueryError>(())
        };
        for (name, value) in &self.headers {
            insert(name, value.expose())?;
        }
        match &self.login {
            None => {}
            Some(Login::Bearer(token)) => {
                insert(AUTHORIZATION.as_str(), &format!("Bearer {}", token.expose()))?;
            }
            Some(Login::Basic { username, password }) => {
                let pair = base64(format!("{}:{}", username.expose(), password.expose()).as_bytes());
                insert(AUTHORIZATION.as_str(), &format!("Basic {pair}"))?;
            }
        }
        Ok(headers)
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<reqwest::Certificate>, String> {
    let none =
        "the CA bundle holds no certificate; it must be PEM, beginning with -----BEGIN CERTIFICATE-----";
    match reqwest::Certificate::from_pem_bundle(pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(none.to_owned()),
    }
}

/// Base64 with padding, as HTTP basic authentication has it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4_usize {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

impl QueryError {
    /// A connection that cannot work as it is described.
    pub(super) fn configuration(url: &str, problem: &str) -> Self {
        Self::new(QueryErrorKind::Configuration, url, problem.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_the_standard_has_it() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (text, expected) in cases {
            assert_eq!(base64(text.as_bytes()), expected);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }

    #[test]
    fn secrets_are_not_shown() {
        let connection = Connection {
            login: Some(Login::Basic { username: Secret::new("ada"), password: Secret::new("lovelace\n") }),
            headers: vec![("x-scope-orgid".into(), Secret::new("tenant"))],
            ..Connection::to("http://localhost:9090/")
        };
        let shown = format!("{connection:?} {:?}", connection.header_map().unwrap());
        for secret in ["ada", "lovelace", "tenant", &base64(b"ada:lovelace")] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert_eq!(connection.url, "http://localhost:9090");
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_being_shown() {
        let connection =
            Connection { login: Some(Login::Bearer(Secret::new("a\nb"))), ..Connection::to("http://x") };
        let message = connection.header_map().unwrap_err().to_string();
        assert!(message.contains("authorization") && !message.contains("a\nb"), "{message}");
    }
}
