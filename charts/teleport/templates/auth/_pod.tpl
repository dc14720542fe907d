{{/* The pod of auth: alone where the storage is elsewhere, else with its volume and the operator beside it. */}}
{{- define "teleport.authPod" -}}
{{- $part := dict "root" . "name" "auth" "values" .Values.auth "config" "auth" -}}
metadata:
  {{- include "teleport.podMetadata" $part | nindent 2 }}
spec:
  {{- include "teleport.podSettings" $part | nindent 2 }}
  securityContext:
    {{- include "teleport.podSecurity" . | nindent 4 }}
  containers:
    - name: auth
      {{- include "teleport.containerSettings" $part | nindent 6 }}
      command: [teleport, start, --roles=auth]
      ports:
        - {name: auth, containerPort: 3025}
        - {name: diag, containerPort: 3000}
      {{- include "teleport.probes" . | nindent 6 }}
      securityContext:
        {{- include "teleport.containerSecurity" . | nindent 8 }}
      {{- include "teleport.storageEnv" (dict "extra" .Values.auth.extraEnv "secret" .Values.storage.dynamodb.credentialsSecretName "type" .Values.storage.type) | nindent 6 }}
      volumeMounts:
        {{- include "teleport.authMounts" . | nindent 8 }}
        {{- with .Values.auth.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- if and (include "teleport.embedded" .) (include "teleport.hasOperator" .) }}
    {{- include "teleport.operatorContainer" . | nindent 4 }}
    {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "teleport.component" $part }}
    - name: tmp
      emptyDir: {}
    {{- if not (include "teleport.embedded" .) }}
    # The state is in {{ .Values.storage.type }}. Here are the audit log's files, and recordings until they are in audit.recordingsUri.
    - name: data
      emptyDir: {}
    {{- else if .Values.auth.persistence.existingClaim }}
    - name: data
      persistentVolumeClaim:
        claimName: {{ .Values.auth.persistence.existingClaim }}
    {{- end }}
    {{- include "teleport.etcdVolume" (dict "root" . "secret" .Values.storage.etcd.tlsSecretName) | nindent 4 }}
    {{- if and (include "teleport.embedded" .) (include "teleport.hasOperator" .) }}
    {{- include "teleport.operatorVolumes" . | nindent 4 }}
    {{- with .Values.operator.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- with .Values.auth.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* What auth and the operator see alike: the configuration and the storage. */}}
{{- define "teleport.authMounts" -}}
- {name: config, mountPath: /etc/teleport.yaml, subPath: teleport.yaml, readOnly: true}
- {name: data, mountPath: /var/lib/teleport}
- {name: tmp, mountPath: /tmp}
{{- if and (eq .Values.storage.type "etcd") .Values.storage.etcd.tlsSecretName }}
- {name: etcd, mountPath: /etc/teleport/etcd, readOnly: true}
{{- end }}
{{- end -}}

{{- define "teleport.etcdVolume" -}}
{{- if and (eq .root.Values.storage.type "etcd") .secret -}}
- name: etcd
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
{{- end -}}
{{- end -}}

{{/* Environment of who opens the storage: (dict "type" T "secret" S "extra" E). */}}
{{- define "teleport.storageEnv" -}}
{{- with .extra -}}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if and (eq .type "dynamodb") .secret }}
envFrom:
  - secretRef:
      name: {{ .secret }}
{{- end }}
{{- end -}}
