<?php
// Scan login for a PHP site: OpenID Connect with curl alone. Run: php -S 127.0.0.1:9001 index.php
$server = getenv('LOGIN_SERVER') ?: 'http://127.0.0.1:8888';
$id = getenv('LOGIN_ID') ?: 'php';
$secret = getenv('LOGIN_SECRET') ?: exit('Set LOGIN_SECRET to the secret in saoma\'s settings.');
$home = 'http://127.0.0.1:' . (getenv('PORT') ?: '9001') . '/';
session_start(['cookie_httponly' => true, 'cookie_samesite' => 'Lax']); // on https: 'cookie_secure' => true, too

function call(string $url, array $options): array
{
    $curl = curl_init($url);
    curl_setopt_array($curl, $options + [CURLOPT_RETURNTRANSFER => true, CURLOPT_FAILONERROR => true, CURLOPT_TIMEOUT => 10]);
    $body = curl_exec($curl);
    if ($body === false) exit('The login server does not help: ' . htmlspecialchars(curl_error($curl)));
    return json_decode($body, true, 512, JSON_THROW_ON_ERROR);
}

function send(string $url, array $query = []): never
{
    header('Location: ' . $url . ($query ? '?' . http_build_query($query) : ''));
    exit;
}

switch ($_SERVER['REQUEST_METHOD'] . ' ' . parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH)) {
    case 'GET /login':
        $_SESSION['state'] = bin2hex(random_bytes(16));
        $_SESSION['verifier'] = bin2hex(random_bytes(32));
        $challenge = rtrim(strtr(base64_encode(hash('sha256', $_SESSION['verifier'], true)), '+/', '-_'), '=');
        send("$server/oauth2/authorize", ['response_type' => 'code', 'client_id' => $id, 'redirect_uri' => "{$home}callback",
            'scope' => 'openid profile', 'state' => $_SESSION['state'],
            'code_challenge' => $challenge, 'code_challenge_method' => 'S256']);
    case 'GET /callback':
        [$code, $state, $issuer] = array_map(fn($name) => (string) filter_input(INPUT_GET, $name), ['code', 'state', 'iss']);
        if ($code === '' || $issuer !== $server || !hash_equals($_SESSION['state'] ?? '', $state))
            exit('That login was not begun here, or was refused. <a href="/login">Again</a>');
        $tokens = call("$server/oauth2/token", [CURLOPT_USERPWD => urlencode($id) . ':' . urlencode($secret),
            CURLOPT_POSTFIELDS => http_build_query(['grant_type' => 'authorization_code', 'code' => $code,
                'redirect_uri' => "{$home}callback", 'code_verifier' => $_SESSION['verifier']])]);
        $user = call("$server/oauth2/userinfo", [CURLOPT_HTTPHEADER => ["Authorization: Bearer {$tokens['access_token']}"]]);
        session_regenerate_id(true);
        $_SESSION = ['user' => $user, 'id_token' => $tokens['id_token']]; // $user['sub'] is who it is; it never changes
        send($home);
    case 'POST /logout': // by POST: SameSite=Lax keeps other sites' forms from signing people out
        $hint = $_SESSION['id_token'] ?? '';
        session_destroy();
        send("$server/oauth2/logout", ['id_token_hint' => $hint, 'client_id' => $id, 'post_logout_redirect_uri' => $home]);
    default:
        echo isset($_SESSION['user'])
            ? 'Hello ' . htmlspecialchars($_SESSION['user']['name'])
                . '<form action="/logout" method="post"><button>Sign out</button></form>'
            : '<a href="/login">Log in</a>';
}
