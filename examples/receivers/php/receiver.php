<?php
// Receives the relay's events: verifies each one, takes it once, and answers fast.
//
// PHP 8.1 or newer with pdo_sqlite:
//   BASIQ_RELAY_SIGNING_SECRET=whsec_… php -S 127.0.0.1:3001 receiver.php

declare(strict_types=1);

const TOLERANCE = 5 * 60; // seconds
const LARGEST_BODY = 1024 * 1024;
const TABLES = <<<'SQL'
    CREATE TABLE IF NOT EXISTS webhooks (id TEXT PRIMARY KEY, received_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
    CREATE TABLE IF NOT EXISTS news (about TEXT NOT NULL PRIMARY KEY, type TEXT NOT NULL, action TEXT NOT NULL,
                                     message TEXT NOT NULL, told INTEGER NOT NULL DEFAULT 1);
    SQL;
const TELL = <<<'SQL'
    INSERT INTO news (about, type, action, message) VALUES (?, ?, ?, ?) ON CONFLICT (about) DO UPDATE
    SET type = excluded.type, action = excluded.action, message = excluded.message, told = told + 1
    SQL;

/** Whether the body, byte for byte as it came, was signed with our secret within the last five minutes. */
function is_genuine(string $secret, string $body): bool
{
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $timestamp = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if ($id === '' || !ctype_digit($timestamp) || abs(time() - (int) $timestamp) > TOLERANCE) {
        return false;
    }
    $right = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $secret, true));
    // There are two signatures while the secret is being replaced.
    foreach (explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $given) {
        if (hash_equals($right, $given)) {
            return true;
        }
    }
    return false;
}

/** Does the work of an event in the transaction that remembers its id: both happen, or neither does. */
function take(string $id, array $event): void
{
    $db = new PDO('sqlite:' . (getenv('DATABASE') ?: 'receiver.db'), options: [PDO::ATTR_TIMEOUT => 2]);
    $db->exec(TABLES);
    $db->beginTransaction(); // what is not committed is undone when the connection closes
    $remember = $db->prepare('INSERT INTO webhooks (id) VALUES (?) ON CONFLICT DO NOTHING');
    $remember->execute([$id]);
    // Other types are accepted and ignored: later versions of the relay may have some.
    if ($remember->rowCount() === 1 && preg_match('/^(job|notice)\./', $event['type'])) {
        $about = $event['jobId'] ?? $event['context']['userId'];
        $db->prepare(TELL)->execute([$about, $event['type'], $event['action'], $event['userMessage']]);
    }
    $db->commit();
}

$secret = base64_decode(preg_replace('/^whsec_/', '', getenv('BASIQ_RELAY_SIGNING_SECRET') ?: ''), true);
$body = file_get_contents('php://input', length: LARGEST_BODY);
try {
    if (!$secret || !is_genuine($secret, $body)) {
        http_response_code(401);
        return;
    }
    take($_SERVER['HTTP_WEBHOOK_ID'], json_decode($body, true, flags: JSON_THROW_ON_ERROR));
    // Answer now. What takes time, such as a call to Basiq, is done by a worker that reads `news`.
    http_response_code(204);
} catch (PDOException | JsonException $error) {
    error_log('not stored: ' . $error->getMessage()); // the relay tries again
    http_response_code(503);
}
